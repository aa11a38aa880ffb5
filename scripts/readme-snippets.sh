#!/usr/bin/env bash
# Proves the README: runs the snippets in it that are marked to be run, word for word, in a fresh copy of the project.
#
# A snippet is marked by the line before its fence: <!-- run: NAME --> for commands, <!-- file: PATH --> for the contents
# of a file. tests/readme/readme.mjs says which there are and what each has to do.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-packages.sh docs

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files --cached --others --exclude-standard -z | while IFS= read -r -d '' file; do
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done | xargs -0 cp --parents --no-dereference --preserve=mode --target-directory="$copy"

node tests/readme/readme.mjs "$copy"
