#!/usr/bin/env bash
# usage: bench.sh [options of curlew-bench]
#
# Benchmark of build/curlew, run by `make bench`. Four parts:
#   1. build/bench/curlew-bench with one worker, the server on CPU 0 and the generator on CPU 1, every figure beside the
#      kernel's floor; then the longest turn of the worker that a scrape of /metrics causes
#   2. build/bench/curlew-bench with a server of one worker and one of two, in alternating slices, on all CPUs
#   3. build/bench/curlew-bench-lookup: CPU time of an app lookup
#   4. bench/stores.mjs: connection latency and store queries with apps in databases, which it starts
# `--scenario NAME` runs part 1 only, with that scenario; `--scenario lookup` and `--scenario stores` run parts 3 and 4
# only. Parts 1 and 2 also write bench.json and bench-workers.json into the build folder. BUILD names another build
# folder. Exit code: 1 if the server refused a request or lost events, or if a goal of parts 3 and 4 was missed.
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

# Prints the status line of GET /up at 127.0.0.1:$1; nothing if there is no answer.
up() {
    local line=
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 0
    printf 'GET /up HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    IFS= read -r -t 2 line <&3 || true
    exec 3>&-
    printf '%s' "$line"
}

# start_server WORKERS [COMMAND...]: starts the server under COMMAND; sets $url to its address, $metrics_url to that of
# its metrics, and $pid to its process id.
start_server() {
    local workers=$1 name=$scratch/${#servers[@]} port=
    shift
    cat >"$name.json" <<END
{
    "host": "127.0.0.1", "port": 0, "workers": $workers, "shutdown_grace_period": 1,
    "metrics": {"host": "127.0.0.1", "port": 0},
    "http_api": {"accept_traffic": {"memory_threshold": 1.0}},
    "app_manager": {"driver": "memory", "array": {"apps": [{
        "id": "bench-app", "key": "bench-key", "secret": "bench-secret",
        "max_connections": 0, "max_backend_events_per_second": 0}]}}
}
END
    # An empty environment: its variables would override the file.
    env -i "PATH=$PATH" "$@" "$build/curlew" serve --config "$name.json" >"$name.log" 2>&1 &
    pid=$!
    servers+=("$pid")
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || give_up "the server ended at its start" "$name.log"
        port=$(sed -nE 's#.*listening on http://127\.0\.0\.1:([0-9]+).*#\1#p' "$name.log" | head -n 1)
        if [ -n "$port" ] && [[ $(up "$port") == *' 200 '* ]]; then
            url=http://127.0.0.1:$port
            metrics_url=$(sed -nE 's#.*metrics on (http://127\.0\.0\.1:[0-9]+)/metrics.*#\1#p' "$name.log" | head -n 1)
            return
        fi
        sleep 0.1
    done
    give_up "the server was not ready within 10 s" "$name.log"
}

bench_stores() {
    scripts/install-packages.sh test
    scripts/npm-packages.sh tests
    CURLEW_BINARY_RELEASE=$build/curlew node bench/stores.mjs
}

[ "$(nproc)" -ge 2 ] || give_up "two CPUs are needed: one for the server and one for the load generator"
for program in "$build/curlew" "$build/bench/curlew-bench" "$build/bench/curlew-bench-lookup"; do
    [ -x "$program" ] || give_up "$program is not there: run make bench, or make build first"
done
ulimit -Sn "$(ulimit -Hn)"
case "$*" in
'--scenario lookup') exec "$build/bench/curlew-bench-lookup" ;;
'--scenario stores')
    bench_stores
    exit
    ;;
esac

echo "bench: one worker, the server on CPU 0, the generator on CPU 1"
start_server 1 taskset -c 0
status=0
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
echo "bench: looking up an app"
"$build/bench/curlew-bench-lookup" || status=$?

echo
echo "bench: apps in a store"
bench_stores || status=$?
exit "$status"
