{{/* `config` as TOML. Helm's own toToml writes 1048576 as 1.048576e+06. Strings of JSON are strings of TOML. */}}

{{- define "moorline.toml" -}}
{{- range $group, $fields := . }}
[{{ $group }}]
{{- range $name, $value := $fields }}
{{- if not (kindIs "invalid" $value) }}
{{ $name }} = {{ include "moorline.toml.value" $value }}
{{- end }}
{{- end }}
{{ end -}}
{{- end -}}

{{- define "moorline.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $parts := list -}}
{{- range $name, $value := . }}{{ $parts = append $parts (printf "%s = %s" ($name | toRawJson) (include "moorline.toml.value" $value)) }}{{ end -}}
{ {{- join ", " $parts -}} }
{{- else if kindIs "slice" . -}}
{{- $parts := list -}}
{{- range . }}{{ $parts = append $parts (include "moorline.toml.value" .) }}{{ end -}}
[{{ join ", " $parts }}]
{{- else if and (kindIs "float64" .) (eq . (floor .)) -}}
{{- int64 . -}}
{{- else -}}
{{- toRawJson . -}}
{{- end -}}
{{- end -}}
