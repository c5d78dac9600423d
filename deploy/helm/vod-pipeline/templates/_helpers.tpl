{{- define "vod.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: vod-pipeline
{{- end }}

{{- /* A value as text. Helm reads numbers as floats, and would write 12884901888 as 1.2884901888e+10. */ -}}
{{- define "vod.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ printf "%.0f" . }}{{ else if not (kindIs "invalid" .) }}{{ . }}{{ end -}}
{{- end }}

{{- define "vod.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ include "vod.text" (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{- define "vod.podSecurity" -}}
runAsNonRoot: true
{{- if not .openshift }}
runAsUser: 10001
runAsGroup: 10001
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "vod.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end }}

{{- /* A variable from the Secret: root, key, isOptional. */ -}}
{{- define "vod.secret" -}}
- name: {{ .key }}
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.existingSecret }}
      key: {{ .key }}
      {{- if .isOptional }}
      optional: true
      {{- end }}
{{- end }}

{{- define "vod.spread" -}}
- maxSkew: 1
  topologyKey: {{ .key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      app.kubernetes.io/name: {{ .name }}
{{- end }}

{{- /* A service's Deployment. root: the chart; name; service; port; priority; graceSeconds; and what differs. */ -}}
{{- define "vod.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "vod.labels" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .values.replicas) }}
  replicas: {{ .values.replicas }}
  {{- end }}
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ .name }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- toYaml .rollingUpdate | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "vod.labels" . | nindent 8 }}
        {{- with .root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .port | quote }}
        prometheus.io/path: /metrics
        {{- with .annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        checksum/config: {{ toJson (list .root.Values.config .root.Values.work) | sha256sum }}
        {{- if .moreContainers }}
        checksum/edge: {{ (.root.Files.Glob "files/edge/*.conf").AsConfig | sha256sum }}
        {{- end }}
    spec:
      serviceAccountName: {{ .service }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      priorityClassName: {{ .priority }}
      terminationGracePeriodSeconds: {{ .graceSeconds }}
      {{- with .root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "vod.podSecurity" .root.Values | nindent 8 }}
        {{- if not .root.Values.openshift }}
        fsGroup: 10001
        fsGroupChangePolicy: OnRootMismatch
        {{- end }}
      {{- with .placement }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      topologySpreadConstraints:
        {{- if .spreadsOverZones }}
        {{- include "vod.spread" (dict "key" "topology.kubernetes.io/zone" "name" .name) | nindent 8 }}
        {{- end }}
        {{- include "vod.spread" (dict "key" "kubernetes.io/hostname" "name" .name) | nindent 8 }}
      containers:
        - name: {{ .service }}
          image: {{ include "vod.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args: ["services.{{ .service }}"]
          ports:
            - name: http
              containerPort: {{ .port }}
          envFrom:
            - configMapRef:
                name: vod-config
            {{- if not .secrets }}
            - secretRef:
                name: {{ .root.Values.existingSecret }}
            {{- end }}
          {{- if or .env .secrets }}
          env:
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- range $key, $isOptional := .secrets }}
            {{- include "vod.secret" (dict "root" $.root "key" $key "isOptional" $isOptional) | nindent 12 }}
            {{- end }}
          {{- end }}
          {{- with .preStopSeconds }}
          lifecycle:
            preStop:
              sleep:
                seconds: {{ . }}
          {{- end }}
          startupProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 3
            timeoutSeconds: 2
            failureThreshold: 60
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 10
            timeoutSeconds: 6
            failureThreshold: 2
          resources:
            {{- toYaml .resources | nindent 12 }}
          securityContext:
            {{- include "vod.containerSecurity" . | nindent 12 }}
          volumeMounts:
            {{- if .values.scratch }}
            - name: work
              mountPath: {{ .root.Values.config.WORK_DIR }}
            {{- else if .readsWork }}
            - name: work
              mountPath: {{ .root.Values.config.WORK_DIR }}
              readOnly: true
            {{- end }}
            - name: tmp
              mountPath: /tmp
        {{- with .moreContainers }}
        {{- . | nindent 8 }}
        {{- end }}
      volumes:
        {{- if .values.scratch }}
        - name: work
          {{- if .root.Values.work.volume.create }}
          persistentVolumeClaim:
            claimName: vod-work
          {{- else }}
          emptyDir:
            sizeLimit: {{ .values.scratch }}
          {{- end }}
        {{- else if .readsWork }}
        - name: work
          persistentVolumeClaim:
            claimName: vod-work
            readOnly: true
        {{- end }}
        - name: tmp
          emptyDir:
            sizeLimit: 1Gi
        {{- with .moreVolumes }}
        {{- . | nindent 8 }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "vod.labels" . | nindent 4 }}
spec:
  {{- if not .isPublic }}
  clusterIP: None # only there so that metrics have a name
  {{- end }}
  selector:
    app.kubernetes.io/name: {{ .name }}
  ports:
    - name: http
      port: {{ .port }}
      targetPort: {{ .targetPort | default "http" }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "vod.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .mostUnavailable | default 1 }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ .name }}
{{- with .values.autoscaling }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $.name }}
  namespace: {{ $.root.Release.Namespace }}
  labels:
    {{- include "vod.labels" $ | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ $.name }}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  {{- with $.scaleDown }}
  behavior:
    scaleDown:
      {{- toYaml . | nindent 6 }}
  {{- end }}
  metrics:
    - type: ContainerResource
      containerResource:
        name: cpu
        container: {{ $.service }}
        target:
          type: Utilization
          averageUtilization: {{ .averageUtilization }}
    {{- with .edgeAverageUtilization }}
    - type: ContainerResource
      containerResource:
        name: cpu
        container: edge
        target:
          type: Utilization
          averageUtilization: {{ . }}
    {{- end }}
{{- end }}
{{- end }}

{{- /* A Deployment of transcoders: root, name, values, env, priority, placement. */ -}}
{{- define "vod.transcoder" -}}
{{- $fixed := dict "service" "transcoder" "port" 8082 "mostUnavailable" "25%" "rollingUpdate" (dict "maxSurge" 0 "maxUnavailable" "25%") -}}
{{- include "vod.deployment" (merge . $fixed) }}
{{- end }}

{{- define "vod.spotTolerations" -}}
- {key: kubernetes.azure.com/scalesetpriority, operator: Equal, value: spot, effect: NoSchedule}
- {key: cloud.google.com/gke-spot, operator: Equal, value: "true", effect: NoSchedule}
{{- end }}

{{- define "vod.spotAffinity" -}}
nodeAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      preference:
        matchExpressions:
          - {key: karpenter.sh/capacity-type, operator: In, values: ["spot"]}
    - weight: 100
      preference:
        matchExpressions:
          - {key: cloud.google.com/gke-spot, operator: In, values: ["true"]}
{{- end }}
