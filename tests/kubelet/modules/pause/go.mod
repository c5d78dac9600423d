module vod-pipeline/tests/kubelet/modules/pause

go 1.22
