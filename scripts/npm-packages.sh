#!/usr/bin/env bash
# usage: npm-packages.sh FOLDER
#
# Fetches what FOLDER/package-lock.json names (tests: the client libraries; scripts/javascript: the linter), once for each
# of its versions.
set -euo pipefail
cd "$(dirname "$0")/../$1"

stamp=node_modules/.installed-lock
if cmp -s package-lock.json "$stamp"; then
    echo "npm: $1: ok"
else
    echo "npm: $1: fetching packages"
    npm ci --no-audit --no-fund && cp package-lock.json "$stamp"
fi
