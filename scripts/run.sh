#!/usr/bin/env bash
# Behind `make run`: from a bare machine to a running server, with a first event ready to be pasted.
set -euo pipefail
cd "$(dirname "$0")/.."

config=config/config.json

# Scheme, host and port of the server, and how many apps the file has, as the server will find them; a word each.
# (Meson brings Python.)
settings() {
    python3 - "$config" <<'END'
import json, os, sys

with open(sys.argv[1], encoding="utf-8") as file:
    config = json.load(file)
apps = config.get("app_manager", {}).get("array", {}).get("apps", [])
app = apps[0] if apps else {"id": "1", "key": "app-key"}
host = os.environ.get("HOST") or config.get("host", "0.0.0.0")
port = os.environ.get("PORT") or config.get("port", 6001)
host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
scheme = "https" if config.get("ssl", {}).get("enabled") else "http"
print(scheme, f"[{host}]" if ":" in host else host, port, app["id"], app["key"], max(1, len(apps)))
END
}

# Whether the process listens on the port: no other server's port is taken for its own.
owns_port() {
    local pid=$1 port inode
    port=$(printf '%04X' "$2")
    while read -r inode; do
        if [ -n "$(find "/proc/$pid/fd" -lname "socket:\\[$inode\\]" -print -quit 2>/dev/null)" ]; then return 0; fi
    done < <(awk -v port=":$port" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    return 1
}

# Only for people, so a configuration that this does not understand is the server's to judge.
introduce() {
    local pid=$1 scheme host port id key count set='' app='' name
    read -r scheme host port id key count < <(settings 2>/dev/null) || return 0
    until owns_port "$pid" "$port"; do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    # What decides the address here has to be said in the other terminals, too.
    for name in HOST PORT SSL_ENABLED; do
        if [ -n "${!name-}" ]; then set+="$name=${!name} "; fi
    done
    if [ "$count" -gt 1 ]; then app=" --id $id"; fi
    cat <<END

  address   $scheme://$host:$port
  app       id $id, key $key

Receive events, in a second terminal in this folder:

  ${set}build/curlew listen my-channel$app

Publish one, in a third:

  ${set}build/curlew publish my-channel my-event '{"message":"hello world"}'$app

END
}

scripts/install-packages.sh build
scripts/build.sh release
# The server gets the process id of this script. The introduction belongs to nobody, so that the server has no child.
( introduce $$ & )
exec build/curlew serve --config "$config"
