"""The commands in docs/kubernetes.md, run literally on a separate cluster."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import NODES
from tests.cluster.control_plane import ControlPlane
from tests.cluster.documented import commands, follow, make_checkout
from tests.cluster.fake_nodes import FakeNodes
from tests.cluster.program_paths import CHART, find
from tests.cluster.programs import obstacle

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NEEDS_CONTAINERS = ("docker build", "kubectl --namespace vod exec")  # nothing runs on these nodes
SERVICES = {"ingest", "streamer", "transcoder", "uploader"}


@pytest.fixture
def empty(tmp_path):
    """A cluster without any of our resources."""
    programs = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "helm")
    if reason := obstacle(*programs):
        pytest.skip(reason)
    with ControlPlane(tmp_path / "cluster") as cluster, FakeNodes(cluster, NODES):
        yield cluster


@pytest.fixture
def checkout(tmp_path):
    return make_checkout(tmp_path)


def runnable(way):
    lines = [line for line in commands("prepare") + commands(way) if not line.startswith(NEEDS_CONTAINERS)]
    assert len(lines) == 6
    return lines


def deployments(cluster):
    return {
        each["metadata"]["name"]: each for each in cluster.get("deployments", "--namespace", "vod")["items"]
    }


def test_newcomer_follows_the_page_with_kustomize(empty, checkout):
    follow(empty, checkout, runnable("kustomize"))
    assert set(deployments(empty)) == SERVICES
    empty.kubectl("scale", "deployment/transcoder", "--replicas", "4", "--namespace", "vod")
    follow(empty, checkout, commands("kustomize")[1:2])
    assert deployments(empty)["transcoder"]["spec"]["replicas"] == 4, "applying again keeps what was scaled"


def test_newcomer_follows_the_page_with_helm_and_changes_the_release(empty, checkout):
    follow(empty, checkout, runnable("helm"))
    assert set(deployments(empty)) == SERVICES
    helm, namespace, wait = find("helm") or "helm", ("--namespace", "vod"), ("--wait", "--timeout", "3m")
    before = pod_annotations(empty)
    empty.kubectl("scale", "deployment/transcoder", "--replicas", "4", "--namespace", "vod")
    empty.run(helm, "upgrade", "vod", str(CHART), *namespace, "--set", "config.LOG_LEVEL=DEBUG", *wait)
    assert pod_annotations(empty) != before, "a changed configuration restarts the pods"
    assert deployments(empty)["transcoder"]["spec"]["replicas"] == 4
    empty.run(helm, "rollback", "vod", "1", *namespace, *wait)
    assert pod_annotations(empty) == before
    second = ("--namespace", "staging", "--create-namespace", "--set", "priorityClasses.create=false")
    empty.run(helm, "install", "vod", str(CHART), *second)
    empty.run(helm, "uninstall", "vod", *namespace, *wait)
    assert deployments(empty) == {}
    classes = {each["metadata"]["name"] for each in empty.get("priorityclasses")["items"]}
    assert classes >= {"vod-serving", "vod-encoding", "vod-bulk"}, "the other release needs them"
    follow(empty, checkout, commands("helm")[1:2])
    assert set(deployments(empty)) == SERVICES


def pod_annotations(cluster):
    return {
        name: each["spec"]["template"]["metadata"]["annotations"]
        for name, each in deployments(cluster).items()
    }
