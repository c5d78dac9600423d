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
DNS_SERVICE = "10.96.0.10"  # which NodeLocal DNSCache answers on the node: no pod is behind it


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


def policies(documents):
    return [each["spec"] for each in documents if each["kind"] == "NetworkPolicy"]


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
    labels = pod_of(service, documents)["metadata"]["labels"]
    side = "from" if direction == "Ingress" else "to"
    chosen = [
        each
        for each in policies(documents)
        if direction in each["policyTypes"] and selects(each["podSelector"], labels)
    ]
    assert chosen, "a pod that no policy selects is open"
    for rule in [rule for spec in chosen for rule in spec.get(direction.lower(), [])]:
        ports = {(p["port"], p.get("protocol", "TCP")) for p in rule["ports"]}
        peers = rule.get(side)
        is_known = peers is None or any(is_peer(peer, namespace, address) for peer in peers)
        if (port, protocol) in ports and is_known:
            return True
    return False


def test_the_policies_leave_other_pods_of_the_namespace_alone(documents):
    """Such as other applications, or those with which cert-manager proves who owns a domain."""
    of_others = [{}, {"acme.cert-manager.io/http01-solver": "true"}, {"app.kubernetes.io/name": "shop"}]
    for policy in policies(documents):
        assert not [labels for labels in of_others if selects(policy["podSelector"], labels)]


def test_the_policies_name_ports_by_number(documents):
    """EKS looks the name of a port up in the pod that connects: no client would be let in."""
    rules = [
        rule for each in policies(documents) for rule in each.get("ingress", []) + each.get("egress", [])
    ]
    assert {type(port["port"]) for rule in rules for port in rule["ports"]} == {int}


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
            {"port": DNS, "address": DNS_SERVICE},
            {"port": DNS, "address": METADATA},  # Cloud DNS of GKE
            {"port": DNS, "address": "fd00::a"},
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
