"""The services in pods on real nodes: `make test-kubelet`.

Two kubelets with containerd, and kube-proxy, KEDA and metrics-server beside the control plane of
`tests.cluster`. All of it runs in namespaces of its own for processes, mounts and network, and ends
with them.
"""
