"""What KEDA and the autoscalers of nodes make of the manifests."""

from __future__ import annotations

import pytest

from tests.cluster.program_paths import K8S, find
from tests.cluster.render import kustomize

pytestmark = pytest.mark.skipif(
    not find("kubectl"), reason="kubectl is missing (`make test-cluster` builds it)"
)


def test_no_pod_waits_for_a_label_that_a_node_gets_only_after_its_start():
    """Where there are no nodes yet, cluster-autoscaler and Karpenter would never add the first one."""
    pods = [
        each["spec"]["template"]["spec"] for each in kustomize(K8S / "overlays/full") if is_workload(each)
    ]
    assert len(pods) == 7
    for pod in pods:
        assert "nodeSelector" not in pod
        affinity = pod.get("affinity", {}).get("nodeAffinity", {})
        assert set(affinity) <= {"preferredDuringSchedulingIgnoredDuringExecution"}


def is_workload(document):
    return document["kind"] in ("Deployment", "Job")


def test_keda_ends_no_transcoder_that_may_be_busy_before_scaling_down_slowly_has_ended_it():
    """After cooldownPeriod without work KEDA goes to zero, whatever scaleDown says."""
    scaled = [each["spec"] for each in kustomize(K8S / "overlays/full") if each["kind"] == "ScaledObject"]
    blind = [
        each
        for each in scaled
        if not any("being_encoded" in trigger["metadata"]["query"] for trigger in each["triggers"])
    ]
    assert [each["scaleTargetRef"]["name"] for each in blind] == ["transcoder-cpu"]
    for each in blind:
        slowly = each["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        (policy,) = slowly["policies"]
        steps = each["maxReplicaCount"] / policy["value"]
        needed_seconds = slowly["stabilizationWindowSeconds"] + steps * policy["periodSeconds"]
        assert each["cooldownPeriod"] >= needed_seconds
