#!/bin/sh
# usage: publish.sh CHANNEL EVENT DATA [TAGS]
#
# Publishes one event over the HTTP API with nothing but curl and openssl, and so shows how a request is signed.
# DATA is JSON: an object, an array or a string. TAGS is a JSON object of strings. CURLEW_URL, APP_ID, APP_KEY and
# APP_SECRET say where and as whom; without them it is the demo app of config/config.json on this machine.
set -eu

url=${CURLEW_URL:-http://127.0.0.1:6001}
id=${APP_ID:-1}
key=${APP_KEY:-app-key}
secret=${APP_SECRET:-app-secret}

if [ $# != 3 ] && [ $# != 4 ]; then
    echo "usage: $0 CHANNEL EVENT DATA [TAGS]" >&2
    exit 2
fi

for program in curl openssl md5sum; do
    if ! command -v "$program" >/dev/null; then
        echo "$0: $program is missing" >&2
        exit 1
    fi
done

path=/apps/$id/events
body="{\"channel\":\"$1\",\"name\":\"$2\",\"data\":$3${4:+,\"tags\":$4}}"
digest=$(printf %s "$body" | md5sum | cut -d ' ' -f 1)
query="auth_key=$key&auth_timestamp=$(date +%s)&auth_version=1.0&body_md5=$digest" # sorted by name
signature=$(printf 'POST\n%s\n%s' "$path" "$query" | openssl dgst -sha256 -hmac "$secret" -r | cut -d ' ' -f 1)

curl --silent --show-error --fail-with-body --write-out '\n' --header 'Content-Type: application/json' \
    --data-binary "$body" "$url$path?$query&auth_signature=$signature"
