#!/usr/bin/env bash
# Behind `make lint`: what can be said about the sources without running them. Every check runs; the exit code is 1 if
# any complained.
# shellcheck disable=SC2317 # the functions are reached through check()
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0

check() {
    local name=$1
    shift
    if "$@"; then
        echo "lint: $name: ok"
    else
        echo "lint: $name: FAILED"
        failed=1
    fi
}

# The project's own files, tracked or about to be, by pattern.
files() {
    git ls-files --cached --others --exclude-standard -z -- "$@" | while IFS= read -r -d '' file; do
        if [ -f "$file" ]; then printf '%s\0' "$file"; fi
    done
}

format() {
    local complaints
    complaints=$(files '*.[ch]' | xargs -0 -r clang-format --dry-run --Werror 2>&1) && return
    grep 'error:' <<<"$complaints" | cut -d: -f1-2 | uniq | sed 's/$/: not as clang-format -i writes it/'
    return 1
}

run_cppcheck() {
    cppcheck --quiet --error-exitcode=1 --inline-suppr -j "$(nproc)" --std=c11 \
        --template='{file}:{line}: {message} [{id}]' --template-location= \
        --enable=warning,performance,portability \
        --suppressions-list=scripts/cppcheck-suppressions.txt \
        -D_GNU_SOURCE '-DCURLEW_VERSION="0"' -I src src
}

# One file for each process: clang-tidy 14 takes a va_list for uninitialized in all files but the first.
run_clang_tidy() {
    local findings
    scripts/build.sh lint >/dev/null || return 1
    findings=$(files 'src/*.c' 'bench/*.c' 'packaging/*.c' | xargs -0 -r -n 1 -P "$(nproc)" clang-tidy --quiet -p build-lint 2>/dev/null |
        grep -E ': (warning|error): ' | sed -E 's#^.*/(src|bench|packaging)/#\1/#' | sort -u | without_suppressed)
    [ -z "$findings" ] || { printf '%s\n' "$findings"; return 1; }
}

# Of "file:line:column: warning: text [check,check...]" the lines that no row of the suppressions names.
without_suppressed() {
    awk '
        FILENAME != "-" { if (!/^#/ && NF != 0) suppressed[$1] = 1; next }
        {
            file = $0; sub(/:.*/, "", file)
            checks = $0; sub(/^.*\[/, "", checks); sub(/\]$/, "", checks)
            count = split(checks, check, ",")
            for (i = 1; i <= count; i++) if (!((check[i] ":" file) in suppressed)) { print; next }
        }
    ' scripts/clang-tidy-suppressions.txt -
}

# A check of our own, which has to find the faults of an example first.
checked_checker() {
    "$1" --self-test && "$1"
}

circles() {
    scripts/build.sh lint >/dev/null && scripts/check-circles.py --self-test && scripts/check-circles.py build-lint
}

shell_scripts() {
    files '*.sh' .ci/run | xargs -0 -r shellcheck
}

javascript() {
    local bin=scripts/javascript/node_modules/.bin result=0
    scripts/npm-packages.sh scripts/javascript >&2 || return 1
    files '*.js' '*.mjs' | xargs -0 -r "$bin/eslint" --config scripts/javascript/eslint.config.js || result=1
    files '*.js' '*.mjs' | xargs -0 -r "$bin/prettier" --check --log-level warn || result=1
    return "$result"
}

dockerfile() {
    scripts/python-packages.sh scripts/python >&2 || return 1
    scripts/python/packages/bin/hadolint --config packaging/docker/hadolint.yaml packaging/docker/Dockerfile
}

left_overs() {
    local found
    found=$(files src tests bench scripts ':!scripts/lint.sh' | xargs -0 -r grep -nE '\b(TODO|FIXME|XXX)\b' || true)
    if [ -n "$found" ]; then
        printf '%s\n' "$found"
        return 1
    fi
}

# Waits go by the monotonic clock: a wall clock that is set back would hold them up.
clock() {
    local found
    found=$(files 'src/*.[ch]' ':!src/base/clock.h' | xargs -0 -r grep -nE '(_timedjoin_np|_timedlock|sem_timedwait) *\(' || true)
    [ -z "$found" ] || { printf '%s\n' "$found"; return 1; }
}

check 'format' format
check 'clock' clock
check 'floors' checked_checker scripts/check-floors.sh
check 'circles' circles
check 'names' checked_checker scripts/check-names.sh
check 'shell scripts' shell_scripts
check 'JavaScript' javascript
check 'Dockerfile' dockerfile
check 'left-overs' left_overs
check 'cppcheck' run_cppcheck
check 'clang-tidy' run_clang_tidy
exit "$failed"
