#!/usr/bin/env bash
# usage: attacks.sh [--seconds N] [--clients N] [--megabytes N] [--p99 MS] [--attack NAME...]
#
# Attacks the release build in a memory control group of 256 MB, with 500 healthy clients beside (tests/soak/attacks.js).
# Exit code 1 if the server is killed, if a healthy client loses an event, or if memory is not given back.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-packages.sh build test
scripts/build.sh release
scripts/npm-packages.sh tests
CURLEW_BINARY_RELEASE=$PWD/build/curlew exec node tests/soak/attacks.js "$@"
