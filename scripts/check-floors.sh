#!/usr/bin/env bash
# Holds src/ to its floors: a folder includes itself and folders on lower floors, never one on its own floor or above.
# Also: includes are written from src/ ("base/slice.h"), and every .c file is in its folder's meson.build.
set -euo pipefail
cd "$(dirname "$0")/../src"

floors='
1 base
2 net config
3 app aws
4 channel store
5 app_manager
6 session api
7 server cli
8 main.c
'

# "line: file: text of the include" for every quoted include, to judge in one place.
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
            if (!(from in floor)) complain(where from " has no floor in scripts/check-floors.sh")
            else if (header !~ /\//) complain(where "write \"" header "\" from src/, with its folder")
            else if (!(to in floor)) complain(where to " has no floor in scripts/check-floors.sh")
            else if (from != to && floor[to] >= floor[from])
                complain(where from " (floor " floor[from] ") must not include " header " (floor " floor[to] ")")
        }
        function complain(text) { print text; bad = 1 }
        END { exit bad }
    '

forgotten=0
for file in $(find . -mindepth 2 -name '*.c' -printf '%P\n'); do
    folder=${file%%/*}
    if ! grep -qF "'${file#*/}'" "$folder/meson.build"; then
        echo "src/$file: not in src/$folder/meson.build"
        forgotten=1
    fi
done
exit "$forgotten"
