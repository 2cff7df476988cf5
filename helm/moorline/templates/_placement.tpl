{{/* Where pods go: affinity, spread, selectors, tolerations. */}}

{{- define "moorline.placement" -}}
{{- $affinity := deepCopy .Values.affinity -}}
{{- if ne .Values.podAntiAffinity "none" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "moorline.selector" (dict "root" . "component" "broker") | fromYaml)) -}}
{{- /* Before 1.31 the pods of a roll also keep away from those that they replace: `hard` then needs twice the nodes. */}}
{{- if semverCompare ">=1.31-0" .Capabilities.KubeVersion.Version -}}
{{- $_ := set $term "matchLabelKeys" (list "pod-template-hash") -}}
{{- end -}}
{{- if eq .Values.podAntiAffinity "hard" -}}
{{- $_ := set $affinity "podAntiAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) -}}
{{- else -}}
{{- $_ := set $affinity "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) -}}
{{- end -}}
{{- end -}}
{{- with $affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $constraints := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $constraint := deepCopy . -}}
{{- if not (hasKey . "labelSelector") -}}
{{- $_ := set $constraint "labelSelector" (dict "matchLabels" (include "moorline.selector" (dict "root" $ "component" "broker") | fromYaml)) -}}
{{- end -}}
{{- if not (hasKey . "matchLabelKeys") -}}
{{- $_ := set $constraint "matchLabelKeys" (list "pod-template-hash") -}}
{{- end -}}
{{- $constraints = append $constraints $constraint -}}
{{- end -}}
{{- with $constraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
