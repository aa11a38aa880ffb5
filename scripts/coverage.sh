#!/usr/bin/env bash
# usage: coverage.sh [FILE...]
#
# Behind `make coverage`: runs the unit tests, the cases for stores and end-to-end tests (all of tests/e2e/*.test.js
# unless FILEs are named) against a build that counts what runs, build-coverage/, and prints the lines and branches of
# src/ that ran, by folder. Every line is in build-coverage/lines.txt. A test that fails is said, and stops nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

build='build-coverage'
tests=("$@")
if [ ${#tests[@]} = 0 ]; then tests=(tests/e2e/*.test.js); fi

scripts/install-packages.sh build test coverage
scripts/build.sh coverage
scripts/npm-packages.sh tests
[ $# != 0 ] || { scripts/test-jars.sh && scripts/python-packages.sh && scripts/toml-cases.py; }
find "$build" -name '*.gcda' -delete

echo 'coverage: unit tests'
meson test -C "$build" --no-rebuild --quiet || echo 'coverage: some of them failed'
echo "coverage: end-to-end tests, ${#tests[@]} files; their output is in $build/e2e.log"
CURLEW_BINARY=$PWD/$build/curlew timeout 30m node --test --test-reporter=spec "${tests[@]}" >"$build/e2e.log" 2>&1 ||
    echo 'coverage: some of them failed'

gcovr --root . --filter 'src/' --object-directory "$build" -j "$(nproc)" --gcov-ignore-parse-errors \
    --json-summary "$build/coverage.json" --txt "$build/lines.txt" "$build"

# Folders of folders, as store/, are shown by their parts.
python3 - "$build/coverage.json" <<'END'
import collections, json, sys

with open(sys.argv[1], encoding="utf-8") as report:
    files = json.load(report)["files"]
rows = collections.defaultdict(collections.Counter)
for file in files:
    folder = "/".join(file["filename"].split("/")[:-1][:3])
    for row in (folder, "all"):
        rows[row].update({key: file[key] for key in ("line_total", "line_covered", "branch_total", "branch_covered")})


def cell(row, what):
    total, covered = row[what + "_total"], row[what + "_covered"]
    return f"{covered:6} of {total:6} {100 * covered / total if total else 100:5.1f} %"


print(f"\n{'folder':28}{'lines':>23}   {'branches':>23}")
for folder in sorted(rows, key=lambda name: (name == "all", name)):
    print(f"{folder:28}{cell(rows[folder], 'line'):>23}   {cell(rows[folder], 'branch'):>23}")
END
