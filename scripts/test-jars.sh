#!/usr/bin/env bash
# Fetches the databases of the end-to-end tests that are jars (tests/backends/pom.xml) with Maven, once for each of their
# versions.
set -euo pipefail
cd "$(dirname "$0")/../tests/backends"

stamp=jars/.fetched
wanted=$(cat pom.xml ./*/pom.xml | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    echo 'jars: ok'
    exit 0
fi
echo 'jars: fetching Cassandra and DynamoDB Local from Maven Central'
rm -rf jars
mvn --batch-mode --quiet --no-transfer-progress dependency:copy-dependencies
echo "$wanted" >"$stamp"
