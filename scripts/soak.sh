#!/usr/bin/env bash
# usage: soak.sh [--seconds N] [--clients N]
#
# Behind `make soak`: everything at once on the release build, with 2,000 clients for 10 minutes
# (tests/soak/soak.js). Exit code 1 if an event or a webhook is lost or doubled, or if memory grows.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-packages.sh build test
scripts/build.sh release
scripts/npm-packages.sh tests
CURLEW_BINARY_RELEASE=$PWD/build/curlew exec node tests/soak/soak.js "$@"
