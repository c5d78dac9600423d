"""The commands of docs/kubernetes.md, followed word by word on a cluster of their own."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.cluster.conftest import NODES
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fake_nodes import FakeNodes
from tests.cluster.places import CHART, REPOSITORY, find
from tests.cluster.programs import obstacle

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PAGE = (REPOSITORY / "docs" / "kubernetes.md").read_text()
NEEDS_CONTAINERS = ("docker build", "kubectl --namespace vod exec")  # nothing runs on these nodes
SERVICES = {"ingest", "streamer", "transcoder", "uploader"}


def commands(section):
    """Return the command lines below the comment that names them."""
    block = re.search(rf"<!-- commands: {section} -->\n((?:    .*\n)+)", PAGE)
    assert block, f"docs/kubernetes.md has no commands for {section}"
    return [line.split("  #")[0].strip() for line in block[1].splitlines()]


@pytest.fixture
def empty(tmp_path):
    """A cluster that knows nothing of ours."""
    programs = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "helm")
    if reason := obstacle(*programs):
        pytest.skip(reason)
    with ControlPlane(tmp_path / "cluster") as cluster, FakeNodes(cluster, NODES):
        yield cluster


@pytest.fixture
def checkout(tmp_path):
    """What a newcomer has of it after `git clone`."""
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "checkout" / "deploy", symlinks=True)
    return tmp_path / "checkout"


def follow(cluster, checkout, way):
    lines = [line for line in commands("prepare") + commands(way) if not line.startswith(NEEDS_CONTAINERS)]
    assert len(lines) == 5
    for line in lines:
        cluster.run("bash", "-c", f"cd {checkout} && {line}")


def deployments(cluster):
    return {
        each["metadata"]["name"]: each for each in cluster.get("deployments", "--namespace", "vod")["items"]
    }


def test_newcomer_follows_the_page_with_kustomize(empty, checkout):
    follow(empty, checkout, "kustomize")
    assert set(deployments(empty)) == SERVICES
    empty.kubectl("scale", "deployment/transcoder", "--replicas", "4", "--namespace", "vod")
    empty.run("bash", "-c", f"cd {checkout} && {commands('kustomize')[0]}")
    assert deployments(empty)["transcoder"]["spec"]["replicas"] == 4, "applying again keeps what was scaled"


def test_newcomer_follows_the_page_with_helm_and_changes_the_release(empty, checkout):
    follow(empty, checkout, "helm")
    assert set(deployments(empty)) == SERVICES
    helm, namespace, wait = find("helm") or "helm", ("--namespace", "vod"), ("--wait", "--timeout", "3m")
    before = pod_annotations(empty)
    empty.kubectl("scale", "deployment/transcoder", "--replicas", "4", "--namespace", "vod")
    empty.run(helm, "upgrade", "vod", str(CHART), *namespace, "--set", "config.LOG_LEVEL=DEBUG", *wait)
    assert pod_annotations(empty) != before, "a changed configuration rolls the pods"
    assert deployments(empty)["transcoder"]["spec"]["replicas"] == 4
    empty.run(helm, "rollback", "vod", "1", *namespace, *wait)
    assert pod_annotations(empty) == before
    empty.run(helm, "uninstall", "vod", *namespace, *wait)
    assert deployments(empty) == {}


def pod_annotations(cluster):
    return {
        name: each["spec"]["template"]["metadata"]["annotations"]
        for name, each in deployments(cluster).items()
    }
