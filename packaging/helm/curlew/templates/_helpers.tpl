{{- define "curlew.name" -}}
{{- if contains "curlew" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-curlew" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "curlew.selector" -}}
app.kubernetes.io/name: curlew
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "curlew.labels" -}}
{{ include "curlew.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* Settings that the manifests need, too: their value in `config`, else the server's default. */}}
{{- define "curlew.port" -}}
{{ int (dig "port" 6001 .Values.config) }}
{{- end }}

{{- define "curlew.metricsPort" -}}
{{ int (dig "metrics" "port" 9601 .Values.config) }}
{{- end }}

{{- /* Variables win, as in the server. Those of existingSecret cannot be seen here. */}}
{{- define "curlew.adapter" -}}
{{- $driver := dig "adapter" "driver" "local" .Values.config }}
{{- $driver = get .Values.secrets "ADAPTER_DRIVER" | default $driver }}
{{- range .Values.env }}
{{- if eq .name "ADAPTER_DRIVER" }}{{- $driver = .value | default $driver }}{{- end }}
{{- end }}
{{- lower $driver }}
{{- end }}

{{- define "curlew.probe" -}}
{{- $prefix := dig "path_prefix" "/" .root.Values.config | trimAll "/" }}
httpGet:
  path: {{ empty $prefix | ternary "" (print "/" $prefix) }}{{ .path }}
  port: main
  scheme: {{ dig "ssl" "enabled" false .root.Values.config | ternary "HTTPS" "HTTP" }}
{{- end }}
