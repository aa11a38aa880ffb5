#!/usr/bin/env bash
# usage: fuzz.sh [SECONDS [TARGET...]]
#
# Runs the fuzz targets (all of tests/fuzz/fuzz_*.c unless named) for SECONDS each, 60 by default, two at a time.
# A target starts from its seeds, tests/fuzz/corpus/NAME/, and from what earlier runs found, build-fuzz/corpus/NAME/;
# an input that breaks it is left in build-fuzz/ and the exit code is 1. tests/fuzz/NAME.dict is used if it exists.
# The line of a target says how many inputs it ran, and how many in a second of CPU time.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1-60}
shift || true
targets=("$@")

scripts/install-packages.sh build fuzz
scripts/build.sh fuzz

if [ ${#targets[@]} = 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        target=${source##*/fuzz_}
        targets+=("${target%.c}")
    done
fi

# A report gets no stack of the allocation, which would cost each of them: the input alone, without this, shows it.
export ASAN_OPTIONS=malloc_context_size=0:quarantine_size_mb=16${ASAN_OPTIONS:+:$ASAN_OPTIONS}
TIMEFORMAT='%U %S'

# Runs, and runs per second of CPU time, of a log and what `time` said.
rate() {
    { grep -m 1 '^Done' "$1" && cat "$2"; } |
        awk 'NR == 1 { runs = $2 } END { if ($1 + $2 > 0) printf "%d runs, %.0f per CPU second", runs, runs / ($1 + $2) }'
}

# libFuzzer writes and deletes a file whenever it finds an input that is better than another one: in memory that does not
# take a fifth of the time.
memory=$(mktemp -d -p /dev/shm curlew-fuzz.XXXXXX)
trap 'rm -rf "$memory"' EXIT

# One target to its end; its output goes to a file, so that two at a time stay readable.
fuzz() {
    local name=$1 log=build-fuzz/$1.log found=$memory/$1 kept=build-fuzz/corpus/$1 result=0
    local options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
    # Features that more inputs have are not rare. libFuzzer looks through the list of rare ones for each feature of
    # each input; with its default of 255 that takes a third of the time.
    options+=(-entropic_feature_frequency_threshold=8)
    options+=(-artifact_prefix="build-fuzz/$name-")
    if [ -f "tests/fuzz/$name.dict" ]; then options+=(-dict="tests/fuzz/$name.dict"); fi
    mkdir -p "$found" "$kept"
    cp -a "$kept/." "$found"
    if { time "build-fuzz/tests/fuzz/fuzz_$name" "${options[@]}" "$found" "tests/fuzz/corpus/$name" >"$log" 2>&1; } \
        2>"$log.cpu"; then
        printf 'fuzz: %-16s ok, %s\n' "$name" "$(rate "$log" "$log.cpu")"
    else
        printf 'fuzz: %-16s FAILED, the end of %s:\n' "$name" "$log"
        tail -n 60 "$log"
        result=1
    fi
    rm -r "$kept"
    cp -a "$found" "$kept"
    return "$result"
}

failed=0
running=0
for target in "${targets[@]}"; do
    if ! compgen -G "tests/fuzz/corpus/$target/*" >/dev/null; then
        printf 'fuzz: %-16s FAILED, no seeds in tests/fuzz/corpus/%s\n' "$target" "$target"
        failed=1
        continue
    fi
    if [ "$running" = 2 ]; then
        wait -n || failed=1
        running=1
    fi
    fuzz "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || failed=1
    running=$((running - 1))
done

if [ "$failed" = 0 ]; then
    echo "fuzz: ${#targets[@]} targets, $seconds s each: no findings"
else
    echo "fuzz: something was found, see above"
fi
exit "$failed"
