#!/usr/bin/env bash
# Behind `make test`: builds the release and both sanitizer variants and runs all tests against them.
#
# A failed stage does not hide the next ones; the summary at the end names each, and the exit code is 1 if any failed.
# shellcheck disable=SC2317 # the functions are reached through stage()
set -euo pipefail
cd "$(dirname "$0")/.."

# The first report ends the process, so that no test goes on after one.
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

summary=()
failed=0
asan_built=
tsan_built=

stage() {
    local name=$1 start=$SECONDS result=passed
    shift
    printf '\n== %s\n' "$name"
    "$@" || { result=FAILED && failed=1; }
    summary+=("$(printf '%-6s  %4d s  %s' "$result" $((SECONDS - start)) "$name")")
    [ "$result" = passed ]
}

# ThreadSanitizer needs its shadow memory's addresses free, which a kernel with much address randomisation does not
# grant. Some containers do not allow to turn that off; there the randomisation is hoped to be mild.
plain_addresses=()
if setarch "$(uname -m)" -R true 2>/dev/null; then plain_addresses=(setarch "$(uname -m)" -R); fi

unit_tests() {
    "${plain_addresses[@]}" meson test -C "$1" --no-rebuild --print-errorlogs
}

# The tests wait for clocks and processes more than they compute, so two files at a time suit even one CPU. More than two
# CPUs: as many as node runs by itself.
end_to_end_tests() {
    local files_at_once=$(($(nproc) > 3 ? $(nproc) - 1 : 2))

    CURLEW_BINARY=$PWD/build-asan/curlew CURLEW_BINARY_TSAN=$PWD/build-tsan/curlew \
        CURLEW_BINARY_RELEASE=$PWD/build/curlew \
        timeout --kill-after=1m 60m "${plain_addresses[@]}" node --test --test-concurrency="$files_at_once" \
        --test-reporter=spec tests/e2e/*.test.js
}

scripts/install-packages.sh build test
echo 'test: building three times, then unit tests and end-to-end tests under the sanitizers'

stage 'build: release' scripts/build.sh release || true
stage 'build: address and undefined-behaviour sanitizers' scripts/build.sh asan && asan_built=yes
stage 'build: thread sanitizer' scripts/build.sh tsan && tsan_built=yes

if [ -n "$asan_built" ]; then
    stage 'unit tests: address and undefined-behaviour sanitizers' unit_tests build-asan || true
fi
if [ -n "$tsan_built" ]; then
    stage 'unit tests: thread sanitizer' unit_tests build-tsan || true
fi
if [ -n "$asan_built" ] && [ -n "$tsan_built" ] &&
    stage 'end-to-end tests: packages' scripts/npm-packages.sh tests; then
    # Without one of these only the tests fail that need it.
    stage 'end-to-end tests: jars' scripts/test-jars.sh || true
    stage 'end-to-end tests: clients for Python' scripts/python-packages.sh || true
    stage 'end-to-end tests: TOML cases' scripts/toml-cases.py || true
    stage 'end-to-end tests: both sanitizers' end_to_end_tests || true
fi

printf '\n== Summary of make test\n'
printf '%s\n' "${summary[@]}"
if [ "$failed" = 0 ]; then
    echo "All passed in $SECONDS s."
else
    echo "Something failed, see above ($SECONDS s)."
fi
exit "$failed"
