#!/usr/bin/env bash
# usage: soak.sh [--seconds N] [--clients N]
#
# Behind `make soak`: everything at once on the release build, with 2,000 clients for 10 minutes
# (tests/soak/soak.js). Exit code 1 if an event or a webhook is lost or doubled, or if memory grows.
#
# After it, eight attacks are made on the release build in a memory control group of 256 MB, one after the other and all at
# once (tests/soak/attacks.js). In a run of five minutes or more each takes 20 s, and the latency of healthy clients counts.
#
# Before it, the state machine (tests/soak/machine.js) runs against the builds with AddressSanitizer and ThreadSanitizer,
# each for half of that time; for a third if the time is under five minutes. So do deltas (tests/soak/deltas.js), each
# for a tenth of it.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=600
arguments=("$@")
for ((i = 0; i + 1 < $#; i++)); do
    if [ "${arguments[i]}" = --seconds ]; then seconds=${arguments[i + 1]}; fi
done

scripts/install-packages.sh build test
scripts/build.sh release
scripts/build.sh asan
scripts/build.sh tsan
scripts/npm-packages.sh tests

# As in test.sh: ThreadSanitizer needs addresses that a kernel with much randomisation does not leave free.
plain_addresses=()
if setarch "$(uname -m)" -R true 2>/dev/null; then plain_addresses=(setarch "$(uname -m)" -R); fi

machine_seconds=$((seconds >= 300 ? seconds / 2 : seconds / 3))
failed=0
for build in build-asan build-tsan; do
    echo "soak: the state machine against $build"
    CURLEW_BINARY=$PWD/$build/curlew "${plain_addresses[@]}" node tests/soak/machine.js \
        --seconds "$machine_seconds" || failed=1
    echo "soak: deltas against $build"
    CURLEW_BINARY=$PWD/$build/curlew "${plain_addresses[@]}" node tests/soak/deltas.js \
        --seconds "$((seconds / 10))" || failed=1
done
CURLEW_BINARY_RELEASE=$PWD/build/curlew node tests/soak/soak.js "$@" || failed=1
attack_options=(--seconds 4)
if [ "$seconds" -ge 300 ]; then attack_options=(--seconds 20 --p99 50); fi
CURLEW_BINARY_RELEASE=$PWD/build/curlew node tests/soak/attacks.js "${attack_options[@]}" || failed=1
exit "$failed"
