#!/usr/bin/env bash
# usage: build.sh release|asan|tsan|fuzz|lint|coverage
#
# Configures and builds one variant in a folder of its own, and prints the folder's name last:
#   release  build/       what users run: optimised, hardened, with debug information
#   asan     build-asan/  AddressSanitizer (with leaks) and UndefinedBehaviorSanitizer
#   tsan     build-tsan/  ThreadSanitizer
#   fuzz     build-fuzz/  libFuzzer targets with clang, address and undefined behaviour
#   coverage build-coverage/  counts for gcov which lines and branches run
#   lint     build-lint/  clang without optimisation, for what reads a compile database or object files
# A compiler's warning is an error in all of them but the release, which users build with compilers that are newer than
# this; CURLEW_WERROR=true makes it one there, too (.ci/run does).
set -euo pipefail
cd "$(dirname "$0")/.."

werror=true
case ${1-} in
release) folder=build options=() werror=${CURLEW_WERROR-false} ;;
asan) folder=build-asan options=('-Db_sanitize=address,undefined' -Dtests=enabled) ;;
tsan) folder=build-tsan options=(-Db_sanitize=thread -Dtests=enabled) ;;
fuzz) folder=build-fuzz options=(-Dfuzz=true) && export CC=clang ;;
coverage)
    # Counters that several threads change need atomic updates.
    folder=build-coverage
    options=(-Db_coverage=true -Dbuildtype=debug -Dc_args=-fprofile-update=atomic -Dtests=enabled)
    ;;
lint) folder=build-lint options=(-Dbuildtype=debug -Dtests=disabled) && export CC=clang ;;
*)
    echo "usage: $0 release|asan|tsan|fuzz|lint|coverage" >&2
    exit 2
    ;;
esac

# Always configured anew (a second or two): the tests are found by looking, and packages may have come or gone.
echo "build: $folder"
mkdir -p "$folder"
again=()
if [ -f "$folder/build.ninja" ]; then again=(--reconfigure); fi
if ! meson setup "${again[@]}" "$folder" -Dwerror="$werror" "${options[@]}" >"$folder/configure.log" 2>&1; then
    cat "$folder/configure.log" >&2
    exit 1
fi

# On a terminal ninja redraws one line; elsewhere ten lines say how far it is.
if [ -t 1 ]; then
    NINJA_STATUS='build: step %f of %t, ' ninja -C "$folder"
else
    NINJA_STATUS='[%f %t] ' ninja -C "$folder" | awk '
        /^\[[0-9]+ [0-9]+\] / {
            count = substr($1, 2) + 0; total = $2 + 0
            tenth = int(10 * count / total)
            if (total >= 20 && tenth > shown) { shown = tenth; printf "build: %d %%\n", 10 * tenth; fflush() }
            next
        }
        !/^ninja: (no work to do|Entering directory)/ { print; fflush() }'
fi
