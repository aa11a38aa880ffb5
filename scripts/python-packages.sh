#!/usr/bin/env bash
# usage: python-packages.sh [FOLDER]
#
# Fetches what FOLDER/requirements.txt names (tests/clients/python: the clients that the end-to-end tests drive, which is
# the default; scripts/python: linters) into a virtual environment, once for each of its versions. What pip says is kept in
# packages/pip.log, for the tests that miss them.
set -euo pipefail
cd "$(dirname "$0")/../${1:-tests/clients/python}"

stamp=packages/.fetched
if cmp -s requirements.txt "$stamp"; then
    echo 'python: ok'
    exit 0
fi
echo 'python: fetching packages'
rm -rf packages
mkdir packages
{
    python3 -m venv packages &&
        packages/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.txt
} 2>&1 | tee packages/pip.log
cp requirements.txt "$stamp"
