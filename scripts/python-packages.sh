#!/usr/bin/env bash
# Fetches the clients for Python that the end-to-end tests drive (tests/clients/python/requirements.txt) into a virtual
# environment, once for each of their versions. What pip says is kept in packages/pip.log, for the tests that miss them.
set -euo pipefail
cd "$(dirname "$0")/../tests/clients/python"

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
