#!/usr/bin/env bash
# Fetches the databases of the end-to-end tests that are jars (tests/backends/pom.xml) with Maven, once for each of their
# versions. What Maven says is kept in jars/maven.log, for the tests that miss the jars.
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
mkdir jars
{ mvn --batch-mode --quiet --no-transfer-progress dependency:copy-dependencies; } 2>&1 | tee jars/maven.log
echo "$wanted" >"$stamp"
