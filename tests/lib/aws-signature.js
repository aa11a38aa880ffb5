// AWS Signatures Version 4, made by AWS's own library for Node.

import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';

// The Authorization header that another implementation gives the request as it arrived.
export async function signatureOf(
  { method, path: at, headers, body },
  { service, region, accessKeyId, secretAccessKey, sessionToken },
) {
  const signed = headers.authorization.match(/SignedHeaders=([^,]+)/)[1].split(';');
  const [hostname, port] = headers.host.split(':');
  const date = headers['x-amz-date'].replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/, '$1-$2-$3T$4:$5:$6Z');
  const signer = new SignatureV4({
    service,
    region,
    credentials: { accessKeyId, secretAccessKey, sessionToken },
    sha256: Sha256,
    applyChecksum: false,
  });
  const request = await signer.sign(
    {
      method,
      hostname,
      port: Number(port),
      protocol: 'http:',
      path: at,
      query: {},
      body,
      headers: Object.fromEntries(
        signed
          .filter((name) => !['x-amz-date', 'x-amz-security-token'].includes(name))
          .map((name) => [name, headers[name]]),
      ),
    },
    { signingDate: new Date(date), signableHeaders: new Set(signed) },
  );
  return request.headers.authorization;
}
