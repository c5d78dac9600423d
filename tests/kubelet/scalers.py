"""What decides how many pods there are: metrics-server for the HPA, KEDA's operator and its metrics adapter.

In a cluster these are pods; here they are processes beside the API server, which asks them through its
aggregation layer as it does everywhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from tests.certificate import make_certificate
from tests.kubelet.network import CONTROL_PLANE
from tests.processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane

METRICS_PORT, ADAPTER_PORT, OPERATOR_PORT = 10443, 10444, 9666
NAME: Final = "front-proxy"
HEADERS: Final = ("extra-headers-prefix=X-Remote-Extra-", "group-headers=X-Remote-Group")
ANY_PORT: Final = "127.0.0.1:0"


def api_server_options(folder: Path) -> tuple[str, ...]:
    """Return the options by which an API server forwards requests to others in its own name."""
    folder.mkdir(parents=True)
    certificate, key = make_certificate(folder, NAME)
    return (
        f"--requestheader-client-ca-file={certificate}",
        f"--requestheader-allowed-names={NAME}",
        *(f"--requestheader-{each}" for each in (*HEADERS, "username-headers=X-Remote-User")),
        f"--proxy-client-cert-file={certificate}",
        f"--proxy-client-key-file={key}",
        "--enable-aggregator-routing=true",
        "--kubelet-preferred-address-types=InternalIP",
    )


def start_metrics_server(cluster: ControlPlane) -> None:
    """Start metrics-server, which reads the CPU use of pods from the kubelets."""
    cluster.start(
        "metrics-server",
        f"--secure-port={METRICS_PORT}",
        f"--cert-dir={cluster.directory / 'metrics-server'}",
        f"--kubeconfig={cluster.kubeconfig}",
        f"--authentication-kubeconfig={cluster.kubeconfig}",
        f"--authorization-kubeconfig={cluster.kubeconfig}",
        "--kubelet-insecure-tls",
        "--kubelet-use-node-status-port",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=15s",
    )
    _register(cluster, "metrics.k8s.io", "kube-system", "metrics-server", METRICS_PORT)


def start_keda(cluster: ControlPlane) -> None:
    """Start KEDA's operator, and the adapter through which the HPA reads the operator's numbers."""
    certificates = _shared_certificate(cluster.directory / "keda")
    cluster.kubectl("create", "namespace", "keda")
    given = {"KUBECONFIG": str(cluster.kubeconfig), "WATCH_NAMESPACE": "", "POD_NAMESPACE": "keda"}
    given |= {"KEDA_CLUSTER_OBJECT_NAMESPACE": "keda"}
    cluster.start(
        "keda-operator",
        f"--cert-dir={certificates}",
        f"--metrics-service-bind-address=127.0.0.1:{OPERATOR_PORT}",
        f"--metrics-bind-address={ANY_PORT}",
        f"--health-probe-bind-address={ANY_PORT}",
        "--enable-webhook-patching=false",
        "--enable-apiservice-patching=false",
        **given,
    )
    cluster.start(
        "keda-adapter",
        f"--secure-port={ADAPTER_PORT}",
        f"--cert-dir={certificates}",
        f"--metrics-service-address=localhost:{OPERATOR_PORT}",
        "--port=0",
        f"--lister-kubeconfig={cluster.kubeconfig}",
        f"--authentication-kubeconfig={cluster.kubeconfig}",
        f"--authorization-kubeconfig={cluster.kubeconfig}",
        **given,
    )
    _register(cluster, "external.metrics.k8s.io", "keda", "keda-metrics-apiserver", ADAPTER_PORT)


def _shared_certificate(folder: Path) -> Path:
    """Write the certificate by which operator and adapter know each other, under KEDA's names."""
    folder.mkdir()
    certificate, key = make_certificate(folder)
    for name, source in (("ca.crt", certificate), ("tls.crt", certificate), ("tls.key", key)):
        (folder / name).write_bytes(source.read_bytes())
    return folder


def _register(cluster: ControlPlane, group: str, namespace: str, name: str, port: int) -> None:
    """Register the service that answers for an API group; returns when it does."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}}
    service["spec"] = {"ports": [{"name": "https", "port": 443, "targetPort": port}]}
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [CONTROL_PLANE], "conditions": {"ready": True}}],
    }
    answers = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{group}"},
        "spec": {
            "group": group,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": name, "namespace": namespace},
        },
    }
    for document in (service, slices, answers):
        cluster.kubectl("apply", "--filename", "-", given=json.dumps(document))
    cluster.kubectl("wait", f"apiservice/v1beta1.{group}", "--for=condition=Available", "--timeout=120s")


def start_proxy(cluster: ControlPlane) -> None:
    """Start kube-proxy, one for both nodes, which share this network namespace."""
    untouched = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig)},
        "clusterCIDR": "10.244.0.0/16",
        "mode": "iptables",
        "conntrack": untouched,
        "healthzBindAddress": f"127.0.0.1:{free_port()}",
        "metricsBindAddress": f"127.0.0.1:{free_port()}",
        "bindAddress": CONTROL_PLANE,
        "hostnameOverride": "node-1",
    }
    path = cluster.directory / "kube-proxy.json"
    path.write_text(json.dumps(config))
    cluster.start("kube-proxy", f"--config={path}")
