#!/usr/bin/env bash
# usage: check-names.sh [--self-test]
#
# Holds the names of the functions of src/, static or not: no name is defined in two files, and every name but main and
# alloc has more than one word, so that it says in a backtrace what it is about.
# --self-test checks a small tree with one fault of each kind instead, and fails unless each of them is found.
set -euo pipefail
cd "$(dirname "$0")/.."

# The faults of the tree $1, sorted.
faults() {
    ctags -x --recurse --sort=no --languages=C --langmap=C:.c.h -D '_Atomic(type)=type' --c-kinds=f --_xformat='%N %F %n' "$1" | sort -k1,1 -k2,2 |
        awk '
            $1 !~ /_/ && $1 != "main" && $1 != "alloc" { print $2 ":" $3 ": " $1 "() names no object" }
            $1 == name && $2 != file { print $2 ":" $3 ": " $1 "() is also defined in " file }
            { name = $1; file = $2 }
        ' | sort
}

self_test() {
    local tree expected found
    tree=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder as it is now
    trap "rm -rf '$tree'" EXIT
    cat >"$tree/one.c" <<'END'
int declared_only(int number);
static int read_file(const char *name) {
    return declared_only(name[0]);
}
struct slice
take(void) {
    return (struct slice){"read_text(int a) {", 1};
}
int main(void) {
    return read_file("");
}
END
    cat >"$tree/two.h" <<'END'
static inline void read_file(void) {
    declared_only(1);
}
static int declared_only(int number) {
    return number;
}
static _Atomic(struct slice *) *pick(void) {
    return 0;
}
END
    expected="$tree/one.c:6: take() names no object
$tree/two.h:1: read_file() is also defined in $tree/one.c
$tree/two.h:7: pick() names no object"
    found=$(faults "$tree")
    if [ "$found" != "$expected" ]; then
        printf 'check-names.sh: its own tree should have these faults:\n%s\nand it found these:\n%s\n' "$expected" "$found"
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
