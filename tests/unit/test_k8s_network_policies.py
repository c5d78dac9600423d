"""What the NetworkPolicies let through, worked out as a network plugin does."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from tests.cluster.program_paths import K8S, find
from tests.cluster.render import kustomize

pytestmark = pytest.mark.skipif(
    not find("kubectl"), reason="kubectl is missing (`make test-cluster` builds it)"
)

SERVICES = ("ingest", "transcoder", "uploader", "streamer")
METADATA = "169.254.169.254"
POSTGRES, RABBITMQ, RABBITMQ_TLS, HTTPS, DNS, OPENSHIFT_DNS = 5432, 5672, 5671, 443, 53, 5353
NODE_LOCAL_DNS = "169.254.20.10"


@pytest.fixture(scope="module")
def documents():
    return kustomize(K8S)


def pod_of(service, documents):
    (found,) = [
        each["spec"]["template"]
        for each in documents
        if each["kind"] == "Deployment" and each["metadata"]["name"] == service
    ]
    return found


def selects(selector, labels):
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for each in selector.get("matchExpressions", []):
        inside = labels.get(each["key"]) in each["values"]
        if inside != (each["operator"] == "In"):
            return False
    return True


def is_peer(peer, namespace, address):
    if "ipBlock" in peer:
        block, host = peer["ipBlock"], ip_address(address)
        excluded = any(host in ip_network(each) for each in block.get("except", []))
        return host in ip_network(block["cidr"]) and not excluded
    return namespace is not None and selects(
        peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}
    )


def is_allowed(documents, service, direction, port, *, namespace=None, address="10.0.0.1", protocol="TCP"):
    pod = pod_of(service, documents)
    named = {p["name"]: p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", [])}
    side = "from" if direction == "Ingress" else "to"
    chosen = [
        each["spec"]
        for each in documents
        if each["kind"] == "NetworkPolicy"
        and direction in each["spec"]["policyTypes"]
        and selects(each["spec"]["podSelector"], pod["metadata"]["labels"])
    ]
    assert chosen, "a pod that no policy selects is open"
    for rule in [rule for spec in chosen for rule in spec.get(direction.lower(), [])]:
        ports = {(named.get(p["port"], p["port"]), p.get("protocol", "TCP")) for p in rule["ports"]}
        peers = rule.get(side)
        is_known = peers is None or any(is_peer(peer, namespace, address) for peer in peers)
        if (port, protocol) in ports and is_known:
            return True
    return False


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reaches_the_servers_that_it_uses_and_no_broker_that_it_does_not_need(documents, service):
    for address in ("10.1.2.3", "52.1.2.3", "2600::1"):
        for port in (POSTGRES, HTTPS):
            assert is_allowed(documents, service, "Egress", port, address=address)
        for port in (RABBITMQ, RABBITMQ_TLS):
            assert is_allowed(documents, service, "Egress", port, address=address) == (service != "streamer")
    for protocol in ("UDP", "TCP"):
        for place in (
            {"port": DNS, "namespace": "kube-system"},
            {"port": DNS, "address": NODE_LOCAL_DNS},
            {"port": OPENSHIFT_DNS, "namespace": "openshift-dns"},
        ):
            assert is_allowed(documents, service, "Egress", protocol=protocol, **place)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("port", [80, 22, 25, 6443, 10250])
def test_a_service_reaches_nothing_else(documents, service, port):
    assert not is_allowed(documents, service, "Egress", port, address="52.1.2.3")
    assert not is_allowed(documents, service, "Egress", port, address="10.1.2.3", namespace="default")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("port", [80, HTTPS])
def test_no_service_reaches_the_credentials_of_its_node(documents, service, port):
    assert not is_allowed(documents, service, "Egress", port, address=METADATA)
    assert not is_allowed(documents, service, "Egress", port, address="fd00:ec2::254")


@pytest.mark.parametrize(
    ("service", "port", "is_public"),
    [
        ("ingest", 8080, True),
        ("streamer", 8080, True),
        ("streamer", 8081, False),
        ("transcoder", 8082, False),
        ("uploader", 8083, False),
    ],
)
def test_the_public_reaches_public_ports_and_prometheus_the_metrics(documents, service, port, is_public):
    assert is_allowed(documents, service, "Ingress", port, address="52.1.2.3") == is_public
    assert is_allowed(documents, service, "Ingress", port, namespace="default") == is_public
    assert is_allowed(documents, service, "Ingress", port, namespace="monitoring")
    assert not is_allowed(documents, service, "Ingress", 22, namespace="monitoring")
