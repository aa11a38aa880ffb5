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
if template --set replicaCount=2 >/dev/null 2>&1; then expect 'two replicas' 'an error' 'a chart'; fi
if template --set replicas=1 >/dev/null 2>&1; then expect 'an unknown value' 'an error' 'a chart'; fi
echo 'lint-chart: ok'
