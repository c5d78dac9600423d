"""The examples beside the manifests: what their controllers do with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.database.pool import CONNECTIONS
from shared.messaging.retry_policy import MAX_DELIVERIES
from shared.messaging.topology import DEAD, QUEUES
from tests.cluster.program_paths import K8S, find
from tests.cluster.render import kustomize, load

PAGE = Path(__file__).parents[2] / "docs/rabbitmq.md"
OF_OTHERS = 30  # KEDA's triggers, the operator, and what Postgres reserves for superusers


def test_no_gateway_ends_a_transfer_because_it_is_long():
    """A route without a timeout gets that of its controller: 15 s for the whole answer in Envoy Gateway."""
    documents = load((K8S / "examples/gateway-api.yaml").read_text())
    rules = [rule for each in documents if each["kind"] == "HTTPRoute" for rule in each["spec"]["rules"]]
    assert [rule["timeouts"] for rule in rules] == [{"request": "0s", "backendRequest": "0s"}] * 2


def most_pods(documents):
    """Return how many pods there may be at once, during a roll-out of everything."""
    deployments = {each["metadata"]["name"]: each for each in documents if each["kind"] == "Deployment"}
    most = {name: each["spec"].get("replicas", 1) for name, each in deployments.items()}
    for each in documents:
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            spec = each["spec"]
            most[spec["scaleTargetRef"]["name"]] = spec.get("maxReplicas") or spec["maxReplicaCount"]
    surges = [each["spec"]["strategy"]["rollingUpdate"]["maxSurge"] for each in deployments.values()]
    return sum(most.values()) + sum(surges)


@pytest.mark.skipif(not find("kubectl"), reason="kubectl is missing (`make test-cluster` builds it)")
def test_postgres_takes_the_connections_of_all_pods():
    (cluster,) = load((K8S / "examples/postgres-cluster.yaml").read_text())
    connections = int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    assert connections >= most_pods(kustomize(K8S / "overlays/full")) * CONNECTIONS + OF_OTHERS


def test_rabbitmq_drops_no_message_before_the_services_give_up():
    cluster, _ = load((K8S / "examples/rabbitmq-cluster.yaml").read_text())
    config = dict(re.findall(r"(?m)^(\S+) = (.+)$", cluster["spec"]["rabbitmq"]["additionalConfig"]))
    policy = "default_policies.operator.vod."
    pattern, limit = config[policy + "queue_pattern"], config[policy + "delivery_limit"]
    assert int(limit) > MAX_DELIVERIES
    assert all(re.search(pattern, name) for queue in QUEUES for name in (queue, queue + DEAD))
    assert f"""'{pattern}' '{{"delivery-limit":{limit}}}'""" in PAGE.read_text(), (
        "the page has the same policy"
    )
