"""The examples beside the manifests: what their controllers do with them."""

from __future__ import annotations

from tests.cluster.program_paths import K8S
from tests.cluster.render import load


def test_no_gateway_ends_a_transfer_because_it_is_long():
    """A route without a timeout gets that of its controller: 15 s for the whole answer in Envoy Gateway."""
    documents = load((K8S / "examples/gateway-api.yaml").read_text())
    rules = [rule for each in documents if each["kind"] == "HTTPRoute" for rule in each["spec"]["rules"]]
    assert [rule["timeouts"] for rule in rules] == [{"request": "0s", "backendRequest": "0s"}] * 2
