#!/usr/bin/env bash
# usage: bench.sh [options of curlew-bench]
#
# Benchmark of build/curlew, run by `make bench`. Nine parts:
#   1. build/bench/curlew-bench with one worker, the server on CPU 0 and the generator on CPU 1, every figure beside the
#      kernel's floor; then the longest turn of the worker that a scrape of /metrics causes
#   2. build/bench/curlew-bench with a server of one worker and one of two, in alternating slices, on all CPUs
#   3. the same generator with a server without TLS and one with it, then one that compresses (`shared`), in alternating
#      slices at the same load, with the servers on CPU 0 and the generator on CPU 1; memory of idle TLS connections
#   4. build/bench/curlew-bench-lookup: CPU time of an app lookup
#   5. build/bench/curlew-bench-rates: CPU time of a check of a rate limit
#   6. bench/stores.mjs: connection latency and store queries with apps in databases, which it starts
#   7. bench/webhooks.mjs: 20,000 webhook events a second, and the latency of publishes beside them
#   8. bench/deltas.mjs: bytes and time of deltas; CPU time of publishing deltas, and through filters
#   9. bench/cluster.mjs: nodes that share events over Redis and NATS, which it starts
# `--scenario NAME` runs part 1 only, with that scenario; `--scenario transport`, `lookup`, `rates`, `stores`,
# `webhooks`, `deltas` and `cluster` run parts 3 to 9 only. Parts 1 and 2 also write bench.json and bench-workers.json into the build folder.
# BUILD names another build folder. Exit code: 1 if the server refused a request or lost events, or if a goal of parts 4 to 9 was missed.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
credentials=(--app-id bench-app --app-key bench-key --app-secret bench-secret)
scratch=$(mktemp -d)
servers=()

stop_servers() {
    if [ ${#servers[@]} -ne 0 ]; then
        kill "${servers[@]}" 2>/dev/null || true
        wait "${servers[@]}" 2>/dev/null || true
    fi
    servers=()
}
trap 'stop_servers; rm -rf "$scratch"' EXIT

give_up() {
    echo "bench: $1" >&2
    if [ -f "${2-}" ]; then
        echo "bench: the server's log ends with" >&2
        tail -n 20 "$2" >&2
    fi
    exit 1
}

# start_server WORKERS [COMMAND...]: starts the server under COMMAND, with the JSON members $settings in its
# configuration; sets $url to its address, $metrics_url to that of its metrics, and $pid to its process id.
settings=
start_server() {
    local workers=$1 name=$scratch/${#servers[@]}
    shift
    cat >"$name.json" <<END
{
    "host": "127.0.0.1", "port": 0, "workers": $workers, "shutdown_grace_period": 1,
    "metrics": {"host": "127.0.0.1", "port": 0},
    "http_api": {"accept_traffic": {"memory_threshold": 1.0}}, $settings
    "app_manager": {"driver": "memory", "array": {"apps": [{
        "id": "bench-app", "key": "bench-key", "secret": "bench-secret",
        "max_connections": 0, "max_backend_events_per_second": 0}]}}
}
END
    rm -f "$name.log" # of a server that was stopped
    # An empty environment: its variables would override the file.
    env -i "PATH=$PATH" "$@" "$build/curlew" serve --config "$name.json" >"$name.log" 2>&1 &
    pid=$!
    servers+=("$pid")
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || give_up "the server ended at its start" "$name.log"
        if grep -qs 'server: ready' "$name.log"; then
            url=$(sed -nE 's#.*listening on (https?://127\.0\.0\.1:[0-9]+).*#\1#p' "$name.log" | head -n 1)
            metrics_url=$(sed -nE 's#.*metrics on (http://127\.0\.0\.1:[0-9]+)/metrics.*#\1#p' "$name.log" | head -n 1)
            return
        fi
        sleep 0.1
    done
    give_up "the server was not ready within 10 s" "$name.log"
}

# What TLS and compression cost.
bench_transport() {
    local plain
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -keyout "$scratch/tls.key" -out "$scratch/tls.crt" 2>/dev/null
    start_server 1 taskset -c 0
    plain=(--url "$url" --pid "$pid" "${credentials[@]}" --cpu 1 --scenario compare)
    settings='"ssl": {"enabled": true, "cert_path": "'$scratch'/tls.crt", "key_path": "'$scratch'/tls.key"},'
    start_server 1 taskset -c 0
    echo "bench: A without TLS, B with it, at the same load; then idle connections with TLS"
    "$build/bench/curlew-bench" "${plain[@]}" --against-url "$url" --against-pid "$pid" || status=$?
    stop_servers
    start_server 1 taskset -c 0
    "$build/bench/curlew-bench" --url "$url" --pid "$pid" "${credentials[@]}" --cpu 1 --scenario idle || status=$?
    stop_servers
    settings=
    start_server 1 taskset -c 0
    plain=(--url "$url" --pid "$pid" "${credentials[@]}" --cpu 1 --scenario compare)
    settings='"websocket": {"compression": "shared"},'
    start_server 1 taskset -c 0
    echo
    echo "bench: A without compression, B with \`shared\`, at the same load and with as many bytes on the wire"
    "$build/bench/curlew-bench" "${plain[@]}" --against-url "$url" --against-pid "$pid" --against-compress || status=$?
    stop_servers
    settings=
}

bench_stores() {
    scripts/install-packages.sh test
    scripts/npm-packages.sh tests
    CURLEW_BINARY_RELEASE=$build/curlew node bench/stores.mjs
}

bench_webhooks() {
    scripts/install-packages.sh test
    scripts/npm-packages.sh tests
    CURLEW_BINARY_RELEASE=$build/curlew node bench/webhooks.mjs
}

bench_deltas() {
    scripts/install-packages.sh test
    scripts/npm-packages.sh tests
    CURLEW_BINARY_RELEASE=$build/curlew node bench/deltas.mjs
}

bench_cluster() {
    scripts/install-packages.sh test
    scripts/npm-packages.sh tests
    CURLEW_BINARY_RELEASE=$build/curlew node bench/cluster.mjs
}

[ "$(nproc)" -ge 2 ] || give_up "two CPUs are needed: one for the server and one for the load generator"
for program in "$build/curlew" "$build/bench/curlew-bench" "$build/bench/curlew-bench-lookup" "$build/bench/curlew-bench-rates"; do
    [ -x "$program" ] || give_up "$program is not there: run make bench, or make build first"
done
ulimit -Sn "$(ulimit -Hn)"
status=0
case "$*" in
'--scenario transport')
    bench_transport
    exit "$status"
    ;;
'--scenario lookup') exec "$build/bench/curlew-bench-lookup" ;;
'--scenario rates') exec "$build/bench/curlew-bench-rates" ;;
'--scenario webhooks')
    bench_webhooks
    exit
    ;;
'--scenario deltas')
    bench_deltas
    exit
    ;;
'--scenario cluster')
    bench_cluster
    exit
    ;;
'--scenario stores')
    bench_stores
    exit
    ;;
esac

echo "bench: one worker, the server on CPU 0, the generator on CPU 1"
start_server 1 taskset -c 0
one=(--url "$url" "${credentials[@]}" --pid "$pid" --metrics-url "$metrics_url" --cpu 1)
"$build/bench/curlew-bench" "${one[@]}" --json "$build/bench.json" "$@" || status=$?
case " $* " in
*' --scenario'* | *' --help '*) ;;
*)
    echo
    echo "bench: scrapes of /metrics on the same server"
    "$build/bench/curlew-bench" "${one[@]}" "$@" --scenario metrics || status=$?
    ;;
esac
stop_servers

case " $* " in
*' --scenario'* | *' --help '*) exit "$status" ;;
esac

echo
echo "bench: A with one worker, B with two, all of them on all CPUs"
start_server 1
first=(--url "$url" --pid "$pid")
start_server 2
"$build/bench/curlew-bench" "${first[@]}" "${credentials[@]}" --against-url "$url" --against-pid "$pid" \
    --json "$build/bench-workers.json" "$@" --scenario compare || status=$?
stop_servers

echo
bench_transport

echo
echo "bench: looking up an app"
"$build/bench/curlew-bench-lookup" || status=$?

echo
echo "bench: checking a rate limit"
"$build/bench/curlew-bench-rates" || status=$?

echo
echo "bench: apps in a store"
bench_stores || status=$?

echo
echo "bench: webhooks"
bench_webhooks || status=$?

echo
echo "bench: deltas and filters"
bench_deltas || status=$?

echo
echo "bench: several nodes"
bench_cluster || status=$?
exit "$status"
