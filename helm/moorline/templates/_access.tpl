{{/* Who may come in, by which certificates, and the files for that. Each Secret is mounted as a directory of its own,
     never by subPath: so the kubelet puts what changes in place, and the broker sees it. */}}

{{/* Whether clients are asked who they are; "true" or nothing. The settings are those of ASKING in the broker. */}}
{{- define "moorline.asks" -}}
{{- $asking := list "certificate_username" "password_file" "redis_users" "jwt_keys" "jwt_keys_url" "sql_user_query" "http_authenticate_url" "authenticators" -}}
{{- $found := or .Values.auth.passwordFile.secretName .Values.auth.jwtKeys.secretName -}}
{{- $given := dig "auth" dict .Values.config -}}
{{- range $asking }}{{ with get $given . }}{{ if ne (toString .) "off" }}{{ $found = true }}{{ end }}{{ end }}{{ end -}}
{{- range .Values.secretConfig }}{{ if has (trimPrefix "auth." .setting) $asking }}{{ $found = true }}{{ end }}{{ end -}}
{{- if $found }}true{{ end -}}
{{- end -}}

{{/* Name of the Secret with the certificate of the listeners; nothing if there is none. */}}
{{- define "moorline.tlsSecretName" -}}
{{- if .Values.tls.certManager.enabled -}}
{{- include "moorline.fullname" . }}-tls
{{- else -}}
{{- .Values.tls.secretName -}}
{{- end -}}
{{- end -}}

{{- define "moorline.rulesConfigMapName" -}}
{{- if .Values.auth.rules }}{{ include "moorline.fullname" . }}-rules{{ else }}{{ .Values.auth.rulesConfigMap.name }}{{ end -}}
{{- end -}}

{{/* What is mounted below /etc/moorline-files, by its directory: {secret or configMap, settings: {setting: file}}. */}}
{{- define "moorline.files" -}}
{{- $files := dict -}}
{{- with .Values.auth.passwordFile }}{{ if .secretName }}
{{- $_ := set $files "users" (dict "secret" .secretName "settings" (dict "auth.password_file" .key)) }}
{{- end }}{{ end -}}
{{- with .Values.auth.jwtKeys }}{{ if .secretName }}
{{- $_ := set $files "jwt-keys" (dict "secret" .secretName "settings" (dict "auth.jwt_keys" .key)) }}
{{- end }}{{ end -}}
{{- with include "moorline.rulesConfigMapName" . }}
{{- $key := empty $.Values.auth.rules | ternary $.Values.auth.rulesConfigMap.key "rules.toml" }}
{{- $_ := set $files "rules" (dict "configMap" . "settings" (dict "auth.rules_file" $key)) }}
{{- end -}}
{{- with include "moorline.tlsSecretName" . }}
{{- $_ := set $files "tls" (dict "secret" . "settings" dict) }}
{{- end -}}
{{- with .Values.tls.clientCA.secretName }}
{{- $_ := set $files "client-ca" (dict "secret" . "settings" dict) }}
{{- end -}}
{{- with .Values.admin.tokens }}{{ if .secretName }}
{{- $_ := set $files "admin-tokens" (dict "secret" .secretName "settings" (dict "admin.tokens_file" .key)) }}
{{- end }}{{ end -}}
{{- with .Values.admin.tls.secretName }}
{{- $_ := set $files "admin-tls" (dict "secret" . "settings" (dict "admin.certificate" "tls.crt" "admin.key" "tls.key")) }}
{{- end -}}
{{- with .Values.redis.passwordFile }}{{ if .secretName }}
{{- $_ := set $files "redis-password" (dict "secret" .secretName "settings" (dict "redis.password_file" .key)) }}
{{- end }}{{ end -}}
{{- with .Values.redis.sentinel.passwordFile }}{{ if .secretName }}
{{- $_ := set $files "sentinel-password" (dict "secret" .secretName "settings" (dict "redis.sentinel_password_file" .key)) }}
{{- end }}{{ end -}}
{{- with .Values.redis.tls.ca }}{{ if .secretName }}
{{- $_ := set $files "redis-ca" (dict "secret" .secretName "settings" (dict "redis.ca_file" .key)) }}
{{- end }}{{ end -}}
{{- with .Values.redis.tls.certificateSecretName }}
{{- $_ := set $files "redis-tls" (dict "secret" . "settings" (dict "redis.certificate" "tls.crt" "redis.key" "tls.key")) }}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{/* The tables of `listeners`, as settings, as JSON: one for each address to listen on. */}}
{{- define "moorline.listeners" -}}
{{- $listeners := dict -}}
{{- range $name, $listener := .Values.listeners -}}
{{- range $number, $host := $.Values.listenHosts -}}
{{- $fields := dict "address" (printf "%s://%s:%d%s" $listener.scheme $host (int $listener.port) ($listener.path | default "")) -}}
{{- if has $listener.scheme (list "mqtts" "wss") -}}
{{- if include "moorline.tlsSecretName" $ -}}
{{- $_ := set $fields "certificate" "/etc/moorline-files/tls/tls.crt" -}}
{{- $_ := set $fields "key" "/etc/moorline-files/tls/tls.key" -}}
{{- end -}}
{{- if $.Values.tls.clientCA.secretName -}}
{{- $_ := set $fields "client_ca" (printf "/etc/moorline-files/client-ca/%s" $.Values.tls.clientCA.key) -}}
{{- with $.Values.tls.clientCA.crlKey -}}
{{- $_ := set $fields "crl" (printf "/etc/moorline-files/client-ca/%s" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $table := eq $number 0 | ternary $name (printf "%s-%d" $name (add $number 1)) -}}
{{- $_ := set $listeners $table (mergeOverwrite $fields ($listener.settings | default dict)) -}}
{{- end -}}
{{- end -}}
{{- toJson $listeners -}}
{{- end -}}

{{/* The configuration file; nothing if it would be empty. */}}
{{- define "moorline.configuration" -}}
{{- $groups := deepCopy .Values.config -}}
{{- with include "moorline.listeners" . | fromJson -}}
{{- $_ := set $groups "listeners" . -}}
{{- end -}}
{{- include "moorline.toml" $groups | trim -}}
{{- end -}}

{{- define "moorline.adminScheme" -}}
{{- empty .Values.admin.tls.secretName | ternary "http" "https" -}}
{{- end -}}

{{/* Ports of the pod for clients, as JSON: [{name, port, servicePort, nodePort}]. */}}
{{- define "moorline.clientPorts" -}}
{{- $ports := list -}}
{{- if .Values.service.plain -}}
{{- $ports = append $ports (dict "name" "mqtt" "port" 1883 "servicePort" .Values.service.port "nodePort" .Values.service.nodePort) -}}
{{- end -}}
{{- range $name, $listener := .Values.listeners -}}
{{- $ports = append $ports (dict "name" $name "port" $listener.port "servicePort" $listener.port "nodePort" $listener.nodePort) -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{- define "moorline.checks.access" -}}
{{- if not (or .Values.allowAnonymous (include "moorline.asks" .)) -}}
{{- fail "\n\nNothing asks clients who they are: whoever reaches the broker would be let in. Name users (auth.passwordFile.secretName),\nkeys of tokens (auth.jwtKeys.secretName) or another way (config.auth). If only machines that you trust can reach it, you\ncan also say allowAnonymous=true." -}}
{{- end -}}
{{- if and .Values.auth.rules .Values.auth.rulesConfigMap.name -}}
{{- fail "\n\nThere can be one file with rules only, but both auth.rules and auth.rulesConfigMap.name are given." -}}
{{- end -}}
{{- if not (or .Values.service.plain .Values.listeners) -}}
{{- fail "\n\nservice.plain is false, so there has to be something in listeners, such as {tls: {scheme: mqtts, port: 8883}}." -}}
{{- end -}}
{{- include "moorline.checks.tls" . -}}
{{- $ports := dict "1883" "plain MQTT" "8080" "the admin address" "8081" "the admin address" -}}
{{- range $name, $listener := .Values.listeners -}}
{{- $port := toString (int $listener.port) -}}
{{- with get $ports $port }}{{ fail (printf "\n\nlisteners.%s.port: %s is the port of %s." $name $port .) }}{{ end -}}
{{- $_ := set $ports $port (printf "listeners.%s" $name) -}}
{{- if and $listener.path (not (has $listener.scheme (list "ws" "wss"))) -}}
{{- fail (printf "\n\nlisteners.%s.path: only ws and wss have one." $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.admin.tokens.secretName (not .Values.serviceMonitor.tokenSecret) (not (dig "admin" "open_metrics" false .Values.config)) -}}
{{- fail "\n\nadmin.tokens asks for a token, so Prometheus needs one: serviceMonitor.tokenSecret={name: ..., key: ...}, or let everybody\nread metrics who reaches them: config.admin.open_metrics=true." -}}
{{- end -}}
{{- end -}}

{{- define "moorline.checks.ingress" -}}
{{- if .Values.adminIngress.enabled -}}
{{- if not .Values.admin.tokens.secretName -}}
{{- fail "\n\nadminIngress.enabled would let everybody steer the cluster: name tokens by admin.tokens.secretName." -}}
{{- end -}}
{{- if dig "admin" "open_metrics" false .Values.config -}}
{{- fail "\n\nadminIngress.enabled would show metrics to everybody: take config.admin.open_metrics away." -}}
{{- end -}}
{{- if not .Values.adminIngress.host -}}
{{- fail "\n\nadminIngress.enabled: give adminIngress.host, by which it is reached." -}}
{{- end -}}
{{- if not .Values.adminIngress.tlsSecretName -}}
{{- fail "\n\nadminIngress.enabled: give adminIngress.tlsSecretName, as tokens must not travel in the open." -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.adminFrom) -}}
{{- fail "\n\nadminIngress.enabled, but the NetworkPolicy lets nobody reach the admin address: say where the ingress controller\nis, such as networkPolicy.adminFrom=[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "moorline.checks.tls" -}}
{{- if .Values.tls.certManager.enabled -}}
{{- if .Values.tls.secretName -}}
{{- fail "\n\nThere can be one certificate only, but both tls.secretName and tls.certManager.enabled are given." -}}
{{- end -}}
{{- if not .Values.tls.certManager.issuerRef.name -}}
{{- fail "\n\ntls.certManager.enabled, but nobody signs the certificate: give tls.certManager.issuerRef.name." -}}
{{- end -}}
{{- end -}}
{{- range $name, $listener := .Values.listeners -}}
{{- $isSecure := has $listener.scheme (list "mqtts" "wss") -}}
{{- if and $isSecure (not (include "moorline.tlsSecretName" $)) (not (dig "settings" "certificate" "" $listener)) -}}
{{- fail (printf "\n\nlisteners.%s is %s, which needs a certificate: tls.secretName (a Secret with tls.crt and tls.key), or\ntls.certManager.enabled=true." $name $listener.scheme) -}}
{{- end -}}
{{- end -}}
{{- end -}}
