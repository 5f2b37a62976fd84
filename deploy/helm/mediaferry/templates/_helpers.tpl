{{- define "mediaferry.name" -}}
{{- $name := .Values.nameOverride | default (ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name)) -}}
{{- /* Names of pods stay below 64 characters: workers are told apart by them. */ -}}
{{- $name | replace "." "-" | trunc 21 | trimSuffix "-" -}}
{{- end -}}

{{- define "mediaferry.labels" -}}
app.kubernetes.io/name: mediaferry
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "mediaferry.dispatcherSelector" -}}
app.kubernetes.io/name: mediaferry
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: dispatcher
{{- end -}}

{{- define "mediaferry.workerSelector" -}}
app.kubernetes.io/name: mediaferry
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: worker
{{- end -}}

{{- /* image takes the root and the program. */ -}}
{{- define "mediaferry.image" -}}
{{- $root := index . 0 -}}
{{- printf "%smediaferry-%s:%s" $root.Values.image.registry (index . 1) ($root.Values.image.tag | default $root.Chart.AppVersion) | quote -}}
{{- end -}}

{{- /* The process needs no right in the cluster and no file of its own. */ -}}
{{- define "mediaferry.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "mediaferry.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- /* env from a Secret: a list of the Secret's name, the variable, the key, and whether it may be missing. */ -}}
{{- define "mediaferry.secretEnv" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 0 | quote }}
      key: {{ index . 2 }}
      {{- if index . 3 }}
      optional: true
      {{- end }}
{{- end -}}

{{- /* Logins that both processes have, each its own. */ -}}
{{- define "mediaferry.loginEnv" -}}
{{- range $variable, $key := dict "MEDIAFERRY_NATS_USER" "nats-user" "MEDIAFERRY_NATS_PASSWORD" "nats-password" "MEDIAFERRY_NATS_TOKEN" "nats-token" "MEDIAFERRY_STAGING_ACCESS_KEY" "staging-access-key" "MEDIAFERRY_STAGING_SECRET_KEY" "staging-secret-key" }}
{{ include "mediaferry.secretEnv" (list $ $variable $key true) }}
{{- end }}
{{- end -}}

{{- /* Settings that both processes have. */ -}}
{{- define "mediaferry.settings" -}}
{{- $settings := dict "nats" .Values.nats "staging" .Values.staging "log" .Values.log "tracing" .Values.tracing -}}
{{- if .Values.metrics.enabled -}}
{{- $_ := set $settings "metrics" (dict "listen" (printf "0.0.0.0:%v" .Values.metrics.port)) -}}
{{- end -}}
{{- $settings | toYaml -}}
{{- end -}}

{{- define "mediaferry.dispatcherSettings" -}}
{{- $api := dict "listen" (printf "0.0.0.0:%v" .Values.dispatcher.api.port) -}}
{{- if .Values.dispatcher.api.tlsSecret -}}
{{- $_ := set $api "cert_file" "/etc/mediaferry-tls/tls.crt" -}}
{{- $_ := set $api "key_file" "/etc/mediaferry-tls/tls.key" -}}
{{- end -}}
{{- $own := dict "api" $api "stop_grace" (printf "%vs" .Values.dispatcher.stopGraceSeconds) -}}
{{- mergeOverwrite (include "mediaferry.settings" . | fromYaml) (deepCopy .Values.dispatcher.settings) $own | toYaml -}}
{{- end -}}

{{- /* pool takes the root and the pool's name, and answers its values over those of all workers. */ -}}
{{- define "mediaferry.pool" -}}
{{- $root := index . 0 -}}
{{- mergeOverwrite (dict "slots" 16 "replicas" 2 "pool" (index . 1) "minReplicas" $root.Values.autoscaling.minReplicas "maxReplicas" $root.Values.autoscaling.maxReplicas) (deepCopy $root.Values.worker) (deepCopy (index $root.Values.pools (index . 1) | default dict)) | toYaml -}}
{{- end -}}

{{- define "mediaferry.workerSettings" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $own := dict "pool" $pool.pool "slots" $pool.slots "stop_grace" (printf "%vs" $pool.stopGraceSeconds) "stall_timeout" $pool.stallTimeout "health" (dict "listen" "0.0.0.0:8081") -}}
{{- mergeOverwrite (include "mediaferry.settings" $root | fromYaml) $own | toYaml -}}
{{- end -}}
