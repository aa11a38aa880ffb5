#!/usr/bin/env bash
# Three nodes, HAProxy in front of them, and Redis, all on this machine. Ctrl-C ends all of it.
#
#   apt-get install redis-server haproxy curl
#   examples/cluster/run.sh
#
# Clients and backends use the balancer on port 6001. CURLEW names the program (default: curlew), PORT, NODE_PORTS,
# REDIS_PORT and ADMIN_PORT other ports.
set -euo pipefail

for program in "${CURLEW:-curlew}" redis-server haproxy curl; do
    command -v "$program" >/dev/null && continue
    echo "run.sh: there is no program $program: install it, or name another one with CURLEW (such as build/curlew)" >&2
    exit 1
done
curlew=$(realpath "$(command -v "${CURLEW:-curlew}")") # a path from where the script was started
cd "$(dirname "$0")"

port=${PORT:-6001}
read -ra node_ports <<<"${NODE_PORTS:-6011 6012 6013}"
redis_port=${REDIS_PORT:-6390}
admin_port=${ADMIN_PORT:-9602}
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')

# What is started here ends with this script, whatever ends that: Redis last, since the nodes say goodbye over it.
pids=()
stop() {
    kill "$@" 2>/dev/null || true
    for pid in "$@"; do
        while kill -0 "$pid" 2>/dev/null; do
            sleep 0.1
        done
    done
}
trap 'stop "${pids[@]:1}"; stop "${pids[0]}"' EXIT
ending=
trap 'ending=yes' INT TERM

# In sessions of their own, Ctrl-C reaches them through this script only: a second signal would end a node at once.
run() {
    setsid "$@" &
    pids+=($!)
}

# Nothing is to be kept: what is in Redis is only on its way.
run redis-server --bind 127.0.0.1 --port "$redis_port" --save "" --appendonly no --loglevel warning

# The admin API of the first node tells `curlew nodes` of all of them.
admin=(CURLEW_ADMIN_TOKEN="$token" CURLEW_ADMIN_LISTEN="127.0.0.1:$admin_port")
for i in 0 1 2; do
    # The nodes share nothing but Redis. Each reads the same configuration, with a name and a port of its own.
    run env PORT="${node_ports[i]}" HOST=127.0.0.1 INSTANCE_PROCESS_ID="node$((i + 1))" \
        REDIS_URL="redis://127.0.0.1:$redis_port" "${admin[@]}" "$curlew" serve --config node.json
    admin=()
done

run env LISTEN="127.0.0.1:$port" NODE1="127.0.0.1:${node_ports[0]}" NODE2="127.0.0.1:${node_ports[1]}" \
    NODE3="127.0.0.1:${node_ports[2]}" haproxy -f haproxy.cfg

until [ -n "$ending" ] || curl --silent --fail --output /dev/null "http://127.0.0.1:$port/ready"; do
    for pid in "${pids[@]}"; do
        kill -0 "$pid" # else it could not start, and has said why
    done
    sleep 0.2
done
echo "clients and backends: http://127.0.0.1:$port, app 1, key app-key, secret app-secret"
echo "the nodes: CURLEW_ADMIN_URL=http://127.0.0.1:$admin_port CURLEW_ADMIN_TOKEN=$token $curlew nodes"

# The others go on if one of them ends: try `kill -9` of a node, and start it again by hand.
until [ -n "$ending" ]; do
    sleep 0.5
done
