{{/* Names, labels, and what is derived from several values. Ports in the pod are fixed: Services map them. */}}

{{- define "moorline.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: room for `-valkey-headless` and the like, and for what is added to names of pods. */}}
{{- define "moorline.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "moorline.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of a selector. Takes (dict "root" $ "component" "broker"). */}}
{{- define "moorline.selector" -}}
app.kubernetes.io/name: {{ include "moorline.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* `labels`, and `annotations` if there are any. Takes also "annotations" (dict). */}}
{{- define "moorline.metadata" -}}
labels:
  {{- include "moorline.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes (dict "image" .Values.image "default" .Chart.AppVersion). */}}
{{- define "moorline.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .default | toString) -}}
{{- end -}}
{{- end -}}

{{- define "moorline.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "moorline.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Fewest pods there are. */}}
{{- define "moorline.replicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{- .Values.autoscaling.minReplicas | int -}}
{{- else if kindIs "invalid" .Values.replicaCount -}}
3
{{- else -}}
{{- .Values.replicaCount | int -}}
{{- end -}}
{{- end -}}

{{/* The pause, the stop, and 10 s for what neither counts: starting `moorline ctl`, ending the process. */}}
{{- define "moorline.gracePeriodSeconds" -}}
{{- add (ceil .Values.drain.pauseSeconds) (ceil .Values.drain.timeoutSeconds) 10 -}}
{{- end -}}

{{- define "moorline.leaseName" -}}
{{- include "moorline.fullname" . }}-chores
{{- end -}}

{{- define "moorline.redisSecretName" -}}
{{- .Values.redis.existingSecret.name | default (printf "%s-redis" (include "moorline.fullname" .)) -}}
{{- end -}}

{{- define "moorline.redisSecretKey" -}}
{{- if .Values.redis.existingSecret.name }}{{ .Values.redis.existingSecret.key }}{{ else }}url{{ end -}}
{{- end -}}

{{/* Ports of Redis for the NetworkPolicy, as a JSON list: given, those of the URL, or 6379. With Sentinel: those of the
     sentinels, and 6379, where the servers are. */}}
{{- define "moorline.redisPorts" -}}
{{- if .Values.networkPolicy.egress.redisPorts -}}
{{- .Values.networkPolicy.egress.redisPorts | toJson -}}
{{- else if and .Values.redis.url (not .Values.valkey.enabled) -}}
{{- $authority := (split "/" (.Values.redis.url | splitList "://" | last))._0 | splitList "@" | last -}}
{{- $sentinel := contains "+sentinel://" .Values.redis.url -}}
{{- $ports := list -}}
{{- range splitList "," $authority -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "26379" "6379" $sentinel)) -}}
{{- end -}}
{{- if $sentinel }}{{ $ports = append $ports "6379" }}{{ end -}}
[{{ $ports | uniq | join "," }}]
{{- else -}}
[6379]
{{- end -}}
{{- end -}}

{{/* What changes when one of the Secrets that are referred to does: their versions, never anything of their contents,
     which others could guess by. Empty without a cluster (`helm template`). */}}
{{- define "moorline.secretVersions" -}}
{{- $names := list -}}
{{- with .Values.redis.existingSecret.name }}{{ $names = append $names . }}{{ end -}}
{{- if .Values.valkey.enabled -}}
{{- with .Values.valkey.existingSecret.name }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- range .Values.secretConfig }}{{ $names = append $names .secretName }}{{ end -}}
{{- $versions := list -}}
{{- range $name := $names | uniq | sortAlpha -}}
{{- with lookup "v1" "Secret" $.Release.Namespace $name -}}
{{- $versions = append $versions (printf "%s:%s:%s" $name .metadata.uid .metadata.resourceVersion) -}}
{{- end -}}
{{- end -}}
{{- join "," $versions -}}
{{- end -}}

{{/* Environment variables of the broker's container. Variables win over the file of `config`. */}}
{{- define "moorline.environment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: MOORLINE_NODE__NAME
  value: $(POD_NAME)
- name: MOORLINE_NODE__ALLOW_ANONYMOUS
  value: {{ .Values.allowAnonymous | quote }}
- name: MOORLINE_NODE__LISTEN
  value: {{ .Values.service.plain | ternary (include "moorline.addresses" (dict "hosts" .Values.listenHosts "port" 1883)) "off" | quote }}
- name: MOORLINE_NODE__ADMIN
  value: {{ printf "%s,127.0.0.1:8081" (include "moorline.addresses" (dict "hosts" .Values.listenHosts "port" 8080)) | quote }}
- name: MOORLINE_ADMIN_URL
  value: {{ include "moorline.adminScheme" . }}://127.0.0.1:8081
- name: MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS
  value: {{ .Values.drain.timeoutSeconds | quote }}
- name: MOORLINE_CLUSTER__DRAIN_PAUSE_SECONDS
  value: {{ .Values.drain.pauseSeconds | quote }}
- name: MOORLINE_KUBERNETES__ENABLED
  value: {{ .Values.kubernetes.enabled | quote }}
- name: MOORLINE_KUBERNETES__LEASE_NAME
  value: {{ include "moorline.leaseName" . }}
{{- if .Values.valkey.enabled }}
{{- with .Values.valkey.existingSecret }}
{{- if .name }}
- name: VALKEY_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- end }}
{{- end }}
- name: MOORLINE_REDIS__URL
  value: redis://{{ if .Values.valkey.existingSecret.name }}:$(VALKEY_PASSWORD)@{{ end }}{{ include "moorline.fullname" . }}-valkey:6379/0
{{- else }}
- name: MOORLINE_REDIS__URL
  valueFrom: {secretKeyRef: {name: {{ include "moorline.redisSecretName" . }}, key: {{ include "moorline.redisSecretKey" . }}}}
{{- end }}
{{- if include "moorline.configuration" . }}
- name: MOORLINE_CONFIG
  value: /etc/moorline/moorline.toml
{{- end }}
{{- range $directory, $file := include "moorline.files" . | fromJson }}
{{- range $setting, $key := $file.settings }}
- name: MOORLINE_{{ $setting | upper | replace "." "__" }}
  value: /etc/moorline-files/{{ $directory }}/{{ $key }}
{{- end }}
{{- end }}
{{- range .Values.secretConfig }}
- name: MOORLINE_{{ .setting | upper | replace "." "__" }}
  valueFrom: {secretKeyRef: {name: {{ .secretName }}, key: {{ .key }}}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "moorline.addresses" -}}
{{- $addresses := list -}}
{{- range .hosts }}{{ $addresses = append $addresses (printf "%s:%d" . (int $.port)) }}{{ end -}}
{{- join "," $addresses -}}
{{- end -}}

{{/* One of the probes. Takes (dict "root" . "path" "/healthz" "probe" .Values.probes.startup). */}}
{{- define "moorline.probe" -}}
httpGet: {path: {{ .path }}, port: admin{{ if .root.Values.admin.tls.secretName }}, scheme: HTTPS{{ end }}}
{{- range $name, $value := .probe }}
{{ $name }}: {{ $value | int }}
{{- end }}
{{- end -}}
