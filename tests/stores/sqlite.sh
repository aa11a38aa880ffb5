#!/bin/sh
# usage: sqlite.sh PROGRAM: runs the store suite against a new file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '{"app_manager":{"driver":"sqlite"},"database":{"sqlite":{"path":"%s/apps.db"}}}' "$folder" >"$folder/config.json"
"$1" "$folder/config.json"
