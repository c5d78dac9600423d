"""Where pods go, and what roll-outs, drains, budgets and priorities do to them."""

from __future__ import annotations

import json

import pytest

from tests.cluster.observe import (
    NAMESPACE,
    SERVING,
    Lowest,
    is_running,
    names,
    pods,
    rolled_out,
    running,
    scale,
)
from tests.cluster.program_paths import K8S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FULL = K8S / "overlays" / "full"


@pytest.fixture
def applied(cluster, secret, until):
    """Everything, applied as users do; removed afterwards."""
    cluster.kubectl("apply", "--kustomize", str(FULL))
    rolled_out(cluster, *SERVING)
    until(lambda: all(len(running(cluster, name)) == 2 for name in SERVING), "two pods of each service run")
    yield cluster
    cluster.kubectl("delete", "--kustomize", str(FULL), "--ignore-not-found", "--timeout=120s")


def test_pods_run_where_they_belong(applied, until):
    scale(applied, "transcoder", 4)
    until(lambda: len(running(applied, "transcoder")) == 4, "four transcoders run")
    rolled_out(applied, "transcoder-plan")
    for pod in pods(applied):
        wants_gpu = pod["metadata"]["labels"]["app.kubernetes.io/name"] == "transcoder"
        assert pod["spec"]["nodeName"].startswith("gpu" if wants_gpu else "cpu")
    for name in SERVING:
        assert len({pod["spec"]["nodeName"] for pod in running(applied, name)}) == 2, "on two nodes"
    assert applied.get("job", "vod-migrate", *NAMESPACE)["status"]["succeeded"] == 1


def test_no_more_transcoders_run_than_there_are_cards(applied, until):
    scale(applied, "transcoder", 6)
    until(lambda: len(pods(applied, "transcoder")) == 6, "six transcoders are wanted")
    until(lambda: len(running(applied, "transcoder")) == 4, "four transcoders run")
    assert len([pod for pod in pods(applied, "transcoder") if not is_running(pod)]) == 2


def test_applying_again_keeps_what_scalers_have_set(applied):
    for name, replicas in (("transcoder", 3), ("transcoder-cpu", 2), ("ingest", 4)):
        scale(applied, name, replicas)
    apply_again(applied, FULL)
    found = applied.get("deployments", *NAMESPACE)["items"]
    replicas = {each["metadata"]["name"]: each["spec"]["replicas"] for each in found}
    assert (replicas["transcoder"], replicas["transcoder-cpu"], replicas["ingest"]) == (3, 2, 4)


def apply_again(cluster, directory):
    cluster.kubectl("delete", "job", "vod-migrate", *NAMESPACE)  # as set by its component
    cluster.kubectl("apply", "--kustomize", str(directory))


def test_changed_configuration_restarts_every_service_and_none_is_short_of_a_pod(applied, overlay):
    before = names([pod for name in SERVING for pod in running(applied, name)])
    overlay.write_text(
        "namespace: vod\nresources: [../full]\nconfigMapGenerator:\n"
        "- {name: vod-config, namespace: vod, behavior: merge, literals: [LOG_LEVEL=DEBUG]}\n"
    )
    with Lowest(applied) as lowest:
        apply_again(applied, overlay.parent)
        rolled_out(applied, *SERVING)
    assert not before & names([pod for name in SERVING for pod in running(applied, name)])
    assert lowest.ready == dict.fromkeys(SERVING, 2)
    applied.kubectl("rollout", "undo", "deployment/ingest", *NAMESPACE)
    rolled_out(applied, "ingest")


@pytest.fixture
def overlay():
    """An additional kustomization of a user."""
    path = K8S / "overlays" / "test-of-the-cluster" / "kustomization.yaml"
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink()
    path.parent.rmdir()


def test_drained_node_is_empty_and_every_service_keeps_running(applied):
    node = running(applied, "ingest")[0]["spec"]["nodeName"]
    with Lowest(applied) as lowest:
        applied.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s")
    left = [pod for pod in pods(applied) if pod["spec"].get("nodeName") == node and is_running(pod)]
    applied.kubectl("uncordon", node)
    assert left == []
    assert min(lowest.ready.values()) >= 1


def test_second_pod_is_not_evicted_while_the_first_is_missing(applied, until):
    for node in ("cpu-0", "cpu-1", "cpu-2"):
        applied.kubectl("cordon", node)  # nothing comes back
    first, second = running(applied, "streamer")
    evict(applied, first)
    until(lambda: len(running(applied, "streamer")) == 1, "the first is gone")
    answer = evict(applied, second, fails=True)
    for node in ("cpu-0", "cpu-1", "cpu-2"):
        applied.kubectl("uncordon", node)
    assert "disruption budget" in answer.errors
    rolled_out(applied, "streamer")


def evict(cluster, pod, *, fails=False):
    metadata = {"name": pod["metadata"]["name"], "namespace": "vod"}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/vod/pods/{metadata['name']}/eviction"
    return cluster.kubectl("create", "--raw", path, "--filename", "-", given=json.dumps(body), fails=fails)


def test_serving_preempts_bulk_encoding_and_planners_preempt_nothing(applied, until):
    """Three nodes of 16 cores: bulk transcoders of four cores take what the others leave."""
    until(lambda: len(running(applied, "transcoder-plan")) == 2, "two planners run")
    scale(applied, "transcoder-cpu", 14)
    until(lambda: is_settled(applied, "transcoder-cpu", 14), "bulk transcoders fill the nodes")
    filled = names(running(applied, "transcoder-cpu"))
    assert len(filled) >= 6
    scale(applied, "transcoder-plan", 14)
    until(lambda: is_settled(applied, "transcoder-plan", 14), "planners take what is left")
    assert len(running(applied, "transcoder-plan")) < 14
    assert names(running(applied, "transcoder-cpu")) == filled
    scale(applied, "uploader", 24)
    until(lambda: len(running(applied, "uploader")) == 24, "uploaders run")
    # Fewer than before; some may be new, in space freed for several at once.
    assert len(running(applied, "transcoder-cpu")) < len(filled)
    assert [len(running(applied, name)) for name in ("ingest", "streamer")] == [2, 2]


def is_settled(cluster, name, count):
    """Return whether every pod runs or is known to be unschedulable, and some are."""
    found = pods(cluster, name)
    waiting = [pod for pod in found if not is_running(pod)]
    return len(found) == count and waiting and all(map(fits_nowhere, waiting))


def fits_nowhere(pod):
    return any(each.get("reason") == "Unschedulable" for each in pod["status"].get("conditions", []))
