#!/usr/bin/env bash
# usage: lint-chart.sh [HELM]
#
# Behind `make chart`: checks the Helm chart with helm, once as it is and once with every value set. Without HELM it
# builds the program from its Go module, into build-helm/, which needs Go 1.24 and a few minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

chart=packaging/helm/curlew
helm=${1:-$PWD/build-helm/helm}
if ! command -v "$helm" >/dev/null; then
    command -v go >/dev/null || { echo 'lint-chart: needs helm or Go; name the program: scripts/lint-chart.sh HELM' >&2; exit 1; }
    echo 'lint-chart: building helm'
    GOBIN=$PWD/build-helm go install helm.sh/helm/v3/cmd/helm@v3.16.4
fi

template() {
    "$helm" template curlew "$chart" --kube-version 1.30.0 "$@"
}

kinds() {
    template "$@" | sed -n 's/^kind: //p' | sort | tr '\n' ' '
}

expect() {
    if [ "$2" != "$3" ]; then
        printf 'lint-chart: %s: expected "%s", got "%s"\n' "$1" "$2" "$3" >&2
        exit 1
    fi
}

all=$chart/ci/all-values.yaml
"$helm" lint --strict --quiet "$chart"
"$helm" lint --strict --quiet "$chart" --values "$all"
expect 'objects by default' 'ConfigMap Deployment Service Service ' "$(kinds)"
expect 'objects with every value' \
    'ConfigMap Deployment Ingress PersistentVolumeClaim PodDisruptionBudget Secret Service Service ServiceMonitor ' \
    "$(kinds --values "$all")"
expect 'probes follow the configuration' '/realtime/live HTTPS /realtime/ready HTTPS /realtime/live HTTPS ' \
    "$(template --values "$all" | sed -nE 's/^ +(path: (.*(live|ready))|scheme: (.*))$/\2\4/p' | tr '\n' ' ')"
expect 'the port follows the configuration' 'containerPort: 7001' \
    "$(template --values "$all" | grep -o 'containerPort: 7001')"
expect 'time to stop' 'terminationGracePeriodSeconds: 50' \
    "$(template --values "$all" | grep -o 'terminationGracePeriodSeconds: .*')"
# fails WHAT PATTERN OPTION...: the chart is refused with a message that has the pattern.
fails() {
    local what=$1 pattern=$2 message
    shift 2
    if message=$(template "$@" 2>&1 >/dev/null); then expect "$what" 'an error' 'a chart'; fi
    grep -q -- "$pattern" <<<"$message" || expect "$what" "$pattern" "$message"
}

fails 'two replicas without an adapter' 'needs config.adapter.driver' --set replicaCount=2
fails 'two replicas with the adapter local' 'needs config.adapter.driver' --set replicaCount=2,config.adapter.driver=LOCAL
fails 'two replicas with a volume' 'cannot share the volume' \
    --set replicaCount=2,config.adapter.driver=redis,persistence.enabled=true
fails 'two replicas with SQLite' 'each pod would have apps of its own' \
    --set replicaCount=2,config.adapter.driver=redis,config.app_manager.driver=sqlite
several=(--set "replicaCount=3,config.adapter.driver=nats,podDisruptionBudget.enabled=true")
expect 'several replicas' 'maxUnavailable: 1 replicas: 3 type: RollingUpdate maxUnavailable: 0 ' \
    "$(template "${several[@]}" | grep -oE '(replicas|maxUnavailable): .*|type: (Rolling|Recreate).*' | tr '\n' ' ')"
expect 'an adapter in a variable' 'replicas: 2' \
    "$(template --set 'replicaCount=2,env[0].name=ADAPTER_DRIVER,env[0].value=redis' | grep -o 'replicas: .*')"
expect 'one replica' 'type: Recreate' "$(template | grep -oE 'type: (Rolling|Recreate).*')"
if template --set replicas=1 >/dev/null 2>&1; then expect 'an unknown value' 'an error' 'a chart'; fi
echo 'lint-chart: ok'
