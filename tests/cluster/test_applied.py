"""A real API server accepts the manifests, the chart and the examples."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cluster.program_paths import K8S, REPOSITORY, find
from tests.cluster.render import helm_text, kustomize, kustomize_text

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FULL = K8S / "overlays" / "full"
VARIANTS = {
    "gpu": K8S,
    **{name: K8S / "overlays" / name for name in ("cpu", "example", "volume", "full")},
}
EXAMPLES = ("ingress-nginx", "gateway-api", "in-cluster-servers", "external-secrets")
EVERYTHING = (
    "transcoder.gpu=true,transcoder.spot=true,planner.enabled=true,keda.enabled=true,"
    "cpuBurst.enabled=true,migrate=true,ingress.enabled=true,podMonitor=true"
)
DRY_RUN = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts")
ANSWERED = (
    "container-image-pull-policy",  # a version or digest is pinned: pulling it again brings the same
    "deployment-has-host-podantiaffinity",  # the spread does that, also for three pods on two nodes
    "deployment-replicas",  # left to the HPA, KEDA and kubectl scale
)


@pytest.mark.parametrize("name", VARIANTS)
def test_api_server_accepts_every_variant_strictly(api, name):
    answer = api.kubectl(*DRY_RUN, "--kustomize", str(VARIANTS[name]))
    assert "serverside-applied" in answer.output
    assert "PodSecurity" not in answer.errors


def test_api_server_accepts_everything_of_the_chart_strictly(api):
    text = helm_text("--set", EVERYTHING)
    assert "serverside-applied" in api.kubectl(*DRY_RUN, "--filename", "-", given=text).output


@pytest.mark.parametrize("name", EXAMPLES)
def test_api_server_accepts_the_examples(api, name):
    answer = api.kubectl(*DRY_RUN, "--filename", str(K8S / "examples" / f"{name}.yaml"))
    assert "serverside-applied" in answer.output


def test_api_server_refuses_a_misspelt_field(api):
    text = kustomize_text(FULL).replace("unhealthyPodEvictionPolicy", "unhealthyPodEvictionPolice")
    answer = api.kubectl(*DRY_RUN, "--filename", "-", given=text, fails=True)
    assert "unhealthyPodEvictionPolice" in answer.errors


@pytest.fixture
def admitting(api):
    """The API server with the accounts and classes that pods name."""
    for name in ("service-accounts", "priority-classes"):
        path = str(K8S / "base" / f"{name}.yaml")
        api.kubectl("apply", "--server-side", "--namespace", "vod", "--filename", path)
    return api


def test_restricted_namespace_admits_every_pod_of_ours(admitting):
    templates = {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in kustomize(FULL)
        if each["kind"] in ("Deployment", "Job")
    }
    assert len(templates) == 7
    for name, template in templates.items():
        metadata = {**template["metadata"], "name": name, "namespace": "vod"}
        pod = {**template, "apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        admitting.kubectl("create", "--dry-run=server", "--filename", "-", given=json.dumps(pod))


def test_restricted_namespace_refuses_a_pod_that_is_not_confined(admitting):
    container = {"name": "x", "image": "x", "command": ["sleep", "1"]}
    spec = {"serviceAccountName": "ingest", "containers": [container]}
    metadata = {"name": "greedy", "namespace": "vod"}
    pod = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    answer = admitting.kubectl("create", "--dry-run=server", "--filename", "-", given=pod, fails=True)
    assert "violates PodSecurity" in answer.errors


def test_kube_score_has_no_unanswered_objection():
    if not find("kube-score"):
        pytest.skip("kube-score is not built")
    ignored = [word for name in ANSWERED for word in ("--ignore-test", name)]
    # No CPU limits either: they would slow FFmpeg and event loops down while cores are idle.
    command = [find("kube-score"), "score", "--ignore-container-cpu-limit", *ignored, "-"]
    done = subprocess.run(command, input=kustomize_text(FULL), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.fixture
def check_dashboards():
    """Reads dashboards by Grafana's own definitions; returns what is wrong with them."""
    if not find("check-dashboards"):
        pytest.skip("check-dashboards is not built")

    def check(*paths):
        command = [find("check-dashboards"), *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    return check


def test_dashboards_are_as_grafana_defines_them(check_dashboards):
    dashboards = sorted((REPOSITORY / "deploy/monitoring/dashboards").glob("*.json"))
    assert len(dashboards) == 5
    assert check_dashboards(*dashboards) == ""


def test_misspelt_option_of_a_panel_is_found(check_dashboards, tmp_path):
    text = (REPOSITORY / "deploy/monitoring/dashboards/overview.json").read_text()
    wrong = tmp_path / "wrong.json"
    wrong.write_text(text.replace('"drawStyle"', '"drawStyel"'))
    assert "drawStyel" in check_dashboards(wrong)
