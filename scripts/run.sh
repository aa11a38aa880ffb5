#!/usr/bin/env bash
# Behind `make run`: from a bare machine to a running server, with a first event ready to be pasted.
set -euo pipefail
cd "$(dirname "$0")/.."

config=config/config.json

# Host, port, and id, key and secret of the first app, as the server will find them; a word each. (Meson brings Python.)
settings() {
    python3 - "$config" <<'END'
import json, os, shlex, sys

with open(sys.argv[1], encoding="utf-8") as file:
    config = json.load(file)
apps = config.get("app_manager", {}).get("array", {}).get("apps", [])
app = apps[0] if apps else {"id": "1", "key": "app-key", "secret": "app-secret"}
host = os.environ.get("HOST") or config.get("host", "0.0.0.0")
port = os.environ.get("PORT") or config.get("port", 6001)
host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
words = (f"[{host}]" if ":" in host else host, port, app["id"], app["key"], app["secret"])
print(*words[:-1], shlex.quote(words[-1]))
END
}

# Only for people, so a configuration that this does not understand is the server's to judge.
introduce() {
    local host port id key secret address line=examples/publish.sh
    read -r host port id key secret < <(settings 2>/dev/null) || return 0
    address=http://$host:$port
    # What examples/publish.sh takes for granted need not be said.
    if [ "$secret" != app-secret ]; then line="APP_SECRET=$secret $line"; fi
    if [ "$key" != app-key ]; then line="APP_KEY=$key $line"; fi
    if [ "$id" != 1 ]; then line="APP_ID=$id $line"; fi
    if [ "$address" != http://127.0.0.1:6001 ]; then line="CURLEW_URL=$address $line"; fi
    cat <<END

  address   $address
  app       id $id, key $key

Publish a first event from another terminal in this folder; README.md shows how to receive it:

  $line my-channel my-event '{"message":"hello world"}'

END
}

scripts/install-packages.sh build run
scripts/build.sh release
introduce
exec build/curlew serve --config "$config"
