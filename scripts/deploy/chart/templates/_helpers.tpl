{{- define "resdet.name" -}}
{{- if contains "resdet" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-resdet" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "resdet.selector" -}}
app.kubernetes.io/name: resdet
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "resdet.labels" -}}
{{ include "resdet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
