{{- define "tsunagi.labels" -}}
app.kubernetes.io/name: tsunagi
app.kubernetes.io/component: control-plane
app.kubernetes.io/part-of: tsunagi
app.kubernetes.io/version: {{ .Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tsunagi.selector" -}}
app.kubernetes.io/name: tsunagi
app.kubernetes.io/component: control-plane
{{- end }}

{{/* registry/repository:tag, or @digest: (dict "image" .Values.proxyImage "root" $) */}}
{{- define "tsunagi.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- $name := .image.repository -}}
{{- if $registry }}{{ $name = printf "%s/%s" (trimSuffix "/" $registry) $name }}{{ end -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $name .image.digest }}
{{- else -}}
{{ printf "%s:%s" $name (.image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "tsunagi.injection" -}}
{{- $chart := dict "image" (include "tsunagi.image" (dict "image" .Values.proxyImage "root" .)) "imagePullPolicy" .Values.proxyImage.pullPolicy "controlPlane" (printf "http://tsunagi.%s.svc:15010" .Release.Namespace) -}}
{{- toYaml (mergeOverwrite $chart (deepCopy .Values.injection.settings)) -}}
{{- end }}

{{/* One way into the injection: (dict "root" $ "name" "..." "namespaces" (list ...) "pods" (list ...)) */}}
{{- define "tsunagi.injectionWebhook" -}}
- name: {{ .name }}.tsunagi.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: {{ .root.Values.injection.failurePolicy }}
  matchPolicy: Equivalent
  reinvocationPolicy: Never
  timeoutSeconds: {{ .root.Values.injection.timeoutSeconds }}
  clientConfig:
    service: {name: tsunagi, namespace: {{ .root.Release.Namespace }}, port: 443, path: /inject}
  rules:
  - {operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods], scope: Namespaced}
  namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ concat (list "kube-system" "kube-public" "kube-node-lease" .root.Release.Namespace) .root.Values.injection.excludedNamespaces | uniq | toJson }}
    {{- range .namespaces }}
    - {{ toJson . }}
    {{- end }}
  objectSelector:
    matchExpressions:
    {{- range .pods }}
    - {{ toJson . }}
    {{- end }}
{{- end }}
