"""Two installations in one cluster, each in a namespace of its own."""

from __future__ import annotations

import pytest

from tests.cluster.program_paths import find
from tests.cluster.render import helm_text, kustomize, load, own_overlay

pytestmark = pytest.mark.skipif(
    not find("kubectl"), reason="kubectl is missing (`make test-cluster` builds it)"
)

EVERYTHING = ("gpu", "keda", "planner", "cpu-burst", "migrate", "work-volume", "monitoring")
CLUSTER_WIDE = {"Namespace", "PriorityClass"}


def namespaces_in(value):
    """Return what fields named `namespace` say, wherever they are."""
    if isinstance(value, dict):
        own = {value["namespace"]} if isinstance(value.get("namespace"), str) else set()
        return own.union(*map(namespaces_in, value.values()))
    return set().union(*map(namespaces_in, value)) if isinstance(value, list) else set()


def test_an_overlay_moves_to_another_namespace_by_one_line(tmp_path):
    components = ", ".join(f"../../components/{name}" for name in EVERYTHING)
    text = f"namespace: staging\nresources: [../../base]\ncomponents: [{components}]\n"
    documents = kustomize(own_overlay(tmp_path, text))
    assert {each["kind"] for each in documents if "namespace" not in each["metadata"]} == CLUSTER_WIDE
    assert [each["metadata"]["name"] for each in documents if each["kind"] == "Namespace"] == ["staging"]
    assert namespaces_in(documents) == {"staging"}


def test_the_example_moves_to_another_namespace_by_one_line(tmp_path):
    overlay = own_overlay(tmp_path, "")
    text = (overlay.parent / "example/kustomization.yaml").read_text()
    (overlay / "kustomization.yaml").write_text(text.replace("namespace: vod", "namespace: staging", 1))
    assert namespaces_in(kustomize(overlay)) == {"staging"}


@pytest.mark.skipif(not find("helm"), reason="helm is missing (`make test-cluster` builds it)")
def test_a_second_release_shares_nothing_but_the_priority_classes():
    values = "keda.enabled=true,cpuBurst.enabled=true,migrate=true,podMonitor=true,ingress.enabled=true"
    first = load(helm_text("--set", values))
    second = load(helm_text("--namespace", "staging", "--set", f"{values},priorityClasses.create=false"))
    shared = [each for each in first if "namespace" not in each["metadata"]]
    assert {each["kind"] for each in shared} == {"PriorityClass"}
    assert namespaces_in(second) == {"staging"}
    assert not [each for each in second if "namespace" not in each["metadata"]]
    kept = {each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in shared}
    assert kept == {"keep"}, "removing one release takes nothing from the other"
