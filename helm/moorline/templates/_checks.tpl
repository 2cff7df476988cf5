{{/* Values that don't go together, each with what to do. values.schema.json has refused unknown and misshapen ones by
     now; what it would say of these could not be understood. */}}

{{- define "moorline.checks" -}}
{{- $values := .Values -}}
{{- $replicas := include "moorline.replicas" . | int -}}
{{- include "moorline.checks.access" . -}}
{{- include "moorline.checks.ingress" . -}}
{{- include "moorline.checks.redis" . -}}
{{- include "moorline.checks.config" . -}}
{{- if $values.autoscaling.enabled -}}
{{- if not (kindIs "invalid" $values.replicaCount) -}}
{{- fail "\n\nreplicaCount is a fixed number of pods, autoscaling.enabled lets them vary: give one of them." -}}
{{- end -}}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) -}}
{{- fail (printf "\n\nautoscaling.minReplicas (%d) is more than autoscaling.maxReplicas (%d)." (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if not (or $values.autoscaling.targetCPU $values.autoscaling.metrics) -}}
{{- fail "\n\nautoscaling.enabled needs something to go by: autoscaling.targetCPU or autoscaling.metrics." -}}
{{- end -}}
{{- end -}}
{{- include "moorline.checks.disruption" (dict "budget" $values.podDisruptionBudget "replicas" $replicas) -}}
{{- if and (has (toString $values.rollout.maxSurge) (list "0" "0%")) (has (toString $values.rollout.maxUnavailable) (list "0" "0%")) -}}
{{- fail "\n\nrollout.maxSurge and rollout.maxUnavailable are both 0: no pod could ever be replaced." -}}
{{- end -}}
{{- if and $values.affinity.podAntiAffinity (ne $values.podAntiAffinity "none") -}}
{{- fail "\n\naffinity.podAntiAffinity is given, so podAntiAffinity must be none." -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled $values.networkPolicy.enabled (not $values.networkPolicy.adminFrom) -}}
{{- fail "\n\nserviceMonitor.enabled, but the NetworkPolicy lets nobody read metrics: say where Prometheus is, such as\nnetworkPolicy.adminFrom=[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]." -}}
{{- end -}}
{{- if and $values.tests.failOver (not $values.service.plain) -}}
{{- fail "\n\ntests.failOver takes plain MQTT, and service.plain is false." -}}
{{- end -}}
{{- if and $values.tests.failOver (lt $replicas 2) -}}
{{- fail "\n\ntests.failOver kills a pod, so there must be at least 2." -}}
{{- end -}}
{{- end -}}

{{- define "moorline.checks.redis" -}}
{{- $given := list -}}
{{- if .Values.redis.url }}{{ $given = append $given "redis.url" }}{{ end -}}
{{- if .Values.redis.existingSecret.name }}{{ $given = append $given "redis.existingSecret.name" }}{{ end -}}
{{- if .Values.valkey.enabled }}{{ $given = append $given "valkey.enabled" }}{{ end -}}
{{- if not $given -}}
{{- fail "\n\nThe broker keeps everything in Redis or Valkey. Say where it is: redis.existingSecret.name (a Secret with the\nURL), redis.url, or valkey.enabled=true for a small one to try it." -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- fail (printf "\n\nThere can be one Redis only, but these are given: %s." (join ", " $given)) -}}
{{- end -}}
{{- end -}}

{{- define "moorline.checks.config" -}}
{{- $owned := dict
  "node.allow_anonymous" "allowAnonymous" "node.listen" "listenHosts" "node.admin" "listenHosts"
  "node.shutdown_timeout_seconds" "drain.timeoutSeconds" "cluster.drain_pause_seconds" "drain.pauseSeconds"
  "redis.url" "redis.url or redis.existingSecret" "kubernetes.enabled" "kubernetes.enabled"
  "node.workers" "replicaCount (a pod is one node)" "node.name" "nothing (it is the name of the pod)"
  "node.data_dir" "nothing (there is no private Redis)"
  "kubernetes.lease_name" "fullnameOverride (it is in the namespace of the release)" -}}
{{- $secret := list -}}
{{- range .Values.secretConfig }}{{ $secret = append $secret .setting }}{{ end -}}
{{- range $group, $fields := .Values.config -}}
{{- range $name, $_ := $fields -}}
{{- $setting := printf "%s.%s" $group $name -}}
{{- with get $owned $setting -}}
{{- fail (printf "\n\nconfig.%s is decided by another value: %s." $setting .) -}}
{{- end -}}
{{- if has $setting $secret -}}
{{- fail (printf "\n\n%s is given twice: by config and by secretConfig." $setting) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $file := include "moorline.files" . | fromJson -}}
{{- range $setting, $_ := $file.settings -}}
{{- $group := regexFind "^[a-z]+" $setting -}}
{{- if or (has $setting $secret) (hasKey (dig $group dict $.Values.config) (trimPrefix (printf "%s." $group) $setting)) -}}
{{- fail (printf "\n\n%s is given twice: by config or secretConfig, and as a mounted file." $setting) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $secret -}}
{{- with get $owned . -}}
{{- fail (printf "\n\nA setting in secretConfig is decided by another value: %s." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes (dict "budget" .Values.podDisruptionBudget "replicas" 3). */}}
{{- define "moorline.checks.disruption" -}}
{{- if .budget.enabled -}}
{{- $minimum := .budget.minAvailable -}}
{{- $maximum := .budget.maxUnavailable -}}
{{- if and (not (kindIs "invalid" $minimum)) (not (kindIs "invalid" $maximum)) -}}
{{- fail "\n\npodDisruptionBudget takes minAvailable or maxUnavailable; set the other one to null." -}}
{{- end -}}
{{- if and (kindIs "invalid" $minimum) (kindIs "invalid" $maximum) -}}
{{- fail "\n\npodDisruptionBudget.enabled needs minAvailable or maxUnavailable." -}}
{{- end -}}
{{- if has (toString $maximum) (list "0" "0%") -}}
{{- fail "\n\npodDisruptionBudget.maxUnavailable is 0: no node of the cluster could ever be drained." -}}
{{- end -}}
{{- if not (kindIs "invalid" $minimum) -}}
{{- $isShare := hasSuffix "%" (toString $minimum) -}}
{{- if or (and $isShare (ge (int (trimSuffix "%" (toString $minimum))) 100)) (and (not $isShare) (ge (int $minimum) .replicas)) -}}
{{- fail (printf "\n\npodDisruptionBudget.minAvailable is %v of %d pods: no node of the cluster could ever be drained." $minimum .replicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
