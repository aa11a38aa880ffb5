#!/usr/bin/env bash
# Fetches what tests/package-lock.json names, once for each of its versions.
set -euo pipefail
cd "$(dirname "$0")/../tests"

stamp=node_modules/.installed-lock
if cmp -s package-lock.json "$stamp"; then
    echo 'npm: ok'
else
    echo 'npm: fetching the client libraries that the tests drive the server with'
    npm ci --no-audit --no-fund && cp package-lock.json "$stamp"
fi
