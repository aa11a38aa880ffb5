#!/usr/bin/env bash
# usage: check-floors.sh [--self-test]
#
# Holds src/ to its floors: a folder includes itself and folders on lower floors, never one on its own floor or above.
# Also: includes are written from src/ ("base/slice.h"), and every .c file is in its folder's meson.build.
# --self-test checks a small tree with one fault of each kind instead, and fails unless each of them is found.
set -euo pipefail
cd "$(dirname "$0")/.."

floors='
1 base
2 net config
3 app aws client
4 channel store
5 app_manager webhook handover
6 cluster
7 session api
8 server cli convert
9 command
10 main.c
'

# Prints the faults of the includes below the current folder.
check_includes() {
    grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' --include='*.[ch]' . | sed 's#^[.]/##' |
        awk -v floors="$floors" '
            BEGIN {
                count = split(floors, rows, "\n")
                for (i = 1; i <= count; i++) {
                    words = split(rows[i], row, " ")
                    for (j = 2; j <= words; j++) floor[row[j]] = row[1]
                }
            }
            {
                split($0, part, ":")
                file = part[1]
                from = file; sub(/\/.*/, "", from)
                header = $0; sub(/^[^"]*"/, "", header); sub(/".*/, "", header)
                to = header; sub(/\/.*/, "", to)
                where = "src/" file ":" part[2] ": "
                if (!(from in floor)) print where from " has no floor in scripts/check-floors.sh"
                else if (header !~ /\//) print where "write \"" header "\" from src/, with its folder"
                else if (!(to in floor)) print where to " has no floor in scripts/check-floors.sh"
                else if (from != to && floor[to] >= floor[from])
                    print where from " (floor " floor[from] ") must not include " header " (floor " floor[to] ")"
            }
        '
}

# Prints the .c files below the current folder that are not built.
check_lists() {
    local file folder
    while IFS= read -r file; do
        folder=${file%%/*}
        if ! grep -qF "'${file#*/}'" "$folder/meson.build"; then
            echo "src/$file: not in src/$folder/meson.build"
        fi
    done < <(find . -mindepth 2 -name '*.c' -printf '%P\n' | sort)
}

# The faults of the tree $1, sorted.
faults() (
    cd "$1"
    { check_includes; check_lists; } | sort
)

self_test() {
    local tree expected found
    tree=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder as it is now
    trap "rm -rf '$tree'" EXIT
    mkdir "$tree"/{base,net,config,attic}
    echo '#include "net/up.h"' >"$tree/base/below.h"
    echo '#include "config/beside.h"' >"$tree/net/up.h"
    echo '#include "up.h"' >"$tree/net/short.c"
    echo '#include "base/below.h"' >"$tree/attic/unknown.h"
    printf '#include <stdio.h>\n#include "base/below.h"\n' >"$tree/config/good.c"
    echo >"$tree/config/forgotten.c"
    echo "files('good.c')" >"$tree/config/meson.build"
    echo "files('short.c')" >"$tree/net/meson.build"
    expected='src/attic/unknown.h:1: attic has no floor in scripts/check-floors.sh
src/base/below.h:1: base (floor 1) must not include net/up.h (floor 2)
src/config/forgotten.c: not in src/config/meson.build
src/net/short.c:1: write "up.h" from src/, with its folder
src/net/up.h:1: net (floor 2) must not include config/beside.h (floor 2)'
    found=$(faults "$tree")
    if [ "$found" != "$expected" ]; then
        printf 'check-floors.sh: its own tree should have these faults:\n%s\nand it found these:\n%s\n' "$expected" "$found"
        return 1
    fi
}

case ${1-} in
--self-test) self_test ;;
'')
    found=$(faults src)
    [ -z "$found" ] || { printf '%s\n' "$found"; exit 1; }
    ;;
*)
    echo "usage: $0 [--self-test]" >&2
    exit 2
    ;;
esac
