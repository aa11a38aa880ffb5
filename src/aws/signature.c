#include "aws/signature.h"

#include <ctype.h>
#include <string.h>

#include "base/crypto.h"
#include "base/secret_text.h"

void aws_date_write(time_t now, char date[AWS_DATE_TEXT]) {
    struct tm parts;

    gmtime_r(&now, &parts);
    strftime(date, AWS_DATE_TEXT, "%Y%m%dT%H%M%SZ", &parts);
}

void aws_escape(struct slice text, bool slashes, struct buffer *escaped) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.data[i];

        if ((isascii(byte) && isalnum(byte)) || (byte != '\0' && strchr("-_.~", byte) != NULL) ||
            (slashes && byte == '/'))
            buffer_append_byte(escaped, (char)byte);
        else
            buffer_appendf(escaped, "%%%02X", byte);
    }
}

/* host;x-amz-date */
static void append_header_names(const struct aws_signed_request *request, struct buffer *text) {
    for (size_t i = 0; i < request->header_count; i++) {
        if (i > 0)
            buffer_append_byte(text, ';');
        buffer_append_string(text, request->headers[i].name);
    }
}

static void append_canonical_request(const struct aws_signed_request *request, struct buffer *text) {
    char digest[SHA256_HEX];

    buffer_append_string(text, request->method);
    buffer_append_byte(text, '\n');
    aws_escape(request->path, true, text);
    buffer_append_string(text, "\n\n"); /* the empty query */
    for (size_t i = 0; i < request->header_count; i++) {
        buffer_appendf(text, "%s:", request->headers[i].name);
        buffer_append(text, request->headers[i].value);
        buffer_append_byte(text, '\n');
    }
    buffer_append_byte(text, '\n');
    append_header_names(request, text);
    buffer_append_byte(text, '\n');
    sha256_hex(request->body, digest);
    buffer_append_bytes(text, digest, sizeof digest);
}

/* The key of the day, region and service: an HMAC of each of them in turn. */
static void derive_signing_key(const struct aws_signed_request *request, const struct aws_credentials *credentials,
                               const char *date, char key[HMAC_SHA256_BYTES]) {
    const struct slice steps[] = {
        {date, 8}, slice_of(request->region), slice_of(request->service), SLICE("aws4_request")};
    struct buffer secret = {0};
    struct slice with;

    buffer_append_string(&secret, "AWS4");
    buffer_append_string(&secret, credentials->secret_access_key);
    with = buffer_slice(&secret);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        hmac_sha256(with, steps[i], key);
        with = (struct slice){key, HMAC_SHA256_BYTES};
    }
    secret_buffer_dispose(&secret);
}

void aws_sign_request(const struct aws_signed_request *request, const struct aws_credentials *credentials,
                      const char *date, struct buffer *authorization) {
    struct buffer text = {0}, to_sign = {0}, scope = {0};
    char digest[SHA256_HEX], key[HMAC_SHA256_BYTES], signature[HMAC_SHA256_HEX];
    struct hmac_key hmac;
    struct slice signed_text;

    buffer_appendf(&scope, "%.8s/%s/%s/aws4_request", date, request->region, request->service);
    append_canonical_request(request, &text);
    sha256_hex(buffer_slice(&text), digest);
    buffer_appendf(&to_sign, "AWS4-HMAC-SHA256\n%s\n%s\n", date, buffer_string(&scope));
    buffer_append_bytes(&to_sign, digest, sizeof digest);
    derive_signing_key(request, credentials, date, key);
    hmac_key_init(&hmac, (struct slice){key, sizeof key});
    signed_text = buffer_slice(&to_sign);
    hmac_sha256_hex(&hmac, &signed_text, 1, signature);
    buffer_appendf(authorization, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=", credentials->access_key_id,
                   buffer_string(&scope));
    append_header_names(request, authorization);
    buffer_append_string(authorization, ", Signature=");
    buffer_append_bytes(authorization, signature, sizeof signature);
    buffer_dispose(&scope);
    buffer_dispose(&to_sign);
    buffer_dispose(&text);
}
