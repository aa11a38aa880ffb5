#!/usr/bin/env bash
# usage: upgrades.sh [--upgrades N] [--clients N] [--grace SECONDS] [--restart]
#
# Upgrades the release build again and again, while 2,000 clients and pusher-js are connected and 100 events a second are
# published (tests/soak/upgrades.js). Exit code 1 if anybody notices. --restart measures plain restarts instead.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-packages.sh build test
scripts/build.sh release
scripts/npm-packages.sh tests
ulimit -n "$(ulimit -Hn)"
CURLEW_BINARY_RELEASE=$PWD/build/curlew exec node tests/soak/upgrades.js "$@"
