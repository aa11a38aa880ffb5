#!/usr/bin/env bash
# Fetches what the end-to-end tests need from Maven Central, once for each version: the databases that are jars
# (tests/backends/pom.xml) and the clients for Java (tests/clients/java/pom.xml). What Maven says is kept in jars/maven.log,
# for the tests that miss the jars.
set -euo pipefail
cd "$(dirname "$0")/.."

fetch_jars() {
    local folder=$1 wanted
    wanted=$(find "$folder" -name pom.xml -not -path '*/jars/*' | sort | xargs cat | sha256sum)
    if [ -f "$folder/jars/.fetched" ] && [ "$(cat "$folder/jars/.fetched")" = "$wanted" ]; then
        echo "jars: $folder: ok"
        return
    fi
    echo "jars: $folder: fetching from Maven Central"
    rm -rf "$folder/jars"
    mkdir "$folder/jars"
    (cd "$folder" && mvn --batch-mode --quiet --no-transfer-progress dependency:copy-dependencies) 2>&1 |
        tee "$folder/jars/maven.log" || return 1
    echo "$wanted" >"$folder/jars/.fetched"
}

result=0
for folder in tests/backends tests/clients/java; do
    fetch_jars "$folder" || result=1
done
exit "$result"
