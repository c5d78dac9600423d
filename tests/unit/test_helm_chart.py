"""The chart renders the same as the kustomizations."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from tests.cluster.program_paths import CHART, K8S, REPOSITORY, find
from tests.cluster.render import helm_text, kustomize, load, own_overlay

pytestmark = pytest.mark.skipif(
    not (find("helm") and find("kubectl")),
    reason="helm or kubectl is missing (`make test-cluster` builds them)",
)

HASHED = re.compile(r"\b(vod-config|vod-edge)-[a-z0-9]{10}\b")
HELM_ALONE = (
    "checksum/config",
    "checksum/edge",
    "helm.sh/hook",
    "helm.sh/hook-delete-policy",
    "helm.sh/resource-policy",
)
EVERYTHING = (
    "transcoder.gpu=true,transcoder.spot=true,planner.enabled=true,keda.enabled=true,cpuBurst.enabled=true"
)
VARIANTS = {
    "cpu": (K8S / "overlays/cpu", ()),
    "gpu": (K8S, ("--set", "transcoder.gpu=true,config.ENCODER=libx264")),
    "volume": (K8S / "overlays/volume", ("--set", "work.volume.create=true")),
    "full": (K8S / "overlays/full", ("--set", f"{EVERYTHING},migrate=true")),
}


def comparable(documents):
    """Return documents by kind and name, without differences between the two tools."""
    by_name = {}
    for document in yaml.safe_load_all(HASHED.sub(r"\1", yaml.safe_dump_all(documents))):
        if document["kind"] == "Namespace":  # helm install --create-namespace
            continue
        for metadata in metadata_of(document):
            left = {k: v for k, v in metadata.pop("annotations", {}).items() if k not in HELM_ALONE}
            metadata.update({"annotations": left} if left else {})
        for container in containers_of(document):
            container.get("env", []).sort(key=lambda each: each["name"])
        pod_of(document).get("tolerations", []).sort(key=lambda each: each["key"])
        by_name[document["kind"], document["metadata"]["name"]] = document
    return by_name


def pod_of(document):
    return (document.get("spec") or {}).get("template", {}).get("spec", {})


def deployment(name, documents):
    (found,) = [
        each for each in documents if (each["kind"], each["metadata"]["name"]) == ("Deployment", name)
    ]
    return found


def containers_of(document):
    return pod_of(document).get("containers", [])


def metadata_of(document):
    inner = (document.get("spec") or {}).get("template", {}).get("metadata")
    return [document["metadata"], *([inner] if inner else [])]


@pytest.mark.parametrize("variant", VARIANTS)
def test_chart_makes_the_same_objects_as_the_kustomization(variant):
    directory, arguments = VARIANTS[variant]
    of_chart, of_kustomize = comparable(load(helm_text(*arguments))), comparable(kustomize(directory))
    assert set(of_chart) == set(of_kustomize)
    for name, document in of_kustomize.items():
        assert of_chart[name] == document, name


def test_chart_leaves_users_to_openshift_as_the_component_does(tmp_path):
    components = "[../../components/migrate, ../../components/openshift]"
    made = own_overlay(tmp_path, f"resources: [../../base]\ncomponents: {components}\n")
    of_chart = comparable(load(helm_text("--set", "openshift=true,migrate=true")))
    assert of_chart == comparable(kustomize(made))
    for document in of_chart.values():
        assert {"runAsUser", "runAsGroup", "fsGroup"}.isdisjoint(pod_of(document).get("securityContext", {}))


def test_chart_makes_the_ingress_of_the_example():
    made = [each for each in load(helm_text("--set", "ingress.enabled=true")) if each["kind"] == "Ingress"]
    example = load((K8S / "examples/ingress-nginx.yaml").read_text())
    assert comparable(made) == comparable(example)


def test_chart_makes_the_pod_monitor_of_the_component():
    made = [each for each in load(helm_text("--set", "podMonitor=true")) if each["kind"] == "PodMonitor"]
    component = load((K8S / "components/monitoring/pod-monitor.yaml").read_text())
    assert comparable(made) == comparable(component)


def test_chart_reads_the_rules_of_the_edge_where_they_are():
    assert (CHART / "files/edge").resolve() == REPOSITORY / "deploy/edge"
    (config,) = [each for each in load(helm_text()) if each["metadata"]["name"] == "vod-edge"]
    assert config["data"]["server.conf"] == (REPOSITORY / "deploy/edge/server.conf").read_text()


def test_chart_says_what_to_do_where_links_are_left_out(tmp_path):
    """As in the archives that Flux makes of a repository."""
    chart = shutil.copytree(CHART, tmp_path / "chart", symlinks=True)
    (chart / "files/edge").unlink()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        helm_text(chart=chart)
    assert "files/edge is missing" in caught.value.stderr
    assert "helm package" in caught.value.stderr


def test_a_packaged_chart_has_the_rules_of_the_edge(tmp_path):
    command = (find("helm"), "package", str(CHART), "--destination", str(tmp_path))
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (packaged,) = tmp_path.iterdir()
    assert load(helm_text(chart=packaged)) == load(helm_text())


def test_chart_serves_local_storage_from_the_volume():
    documents = load(helm_text("--set", "config.STORAGE_TYPE=local,work.volume.create=true"))
    (config,) = [each for each in documents if each["metadata"]["name"] == "vod-edge"]
    assert config["data"]["segments.conf"] == (REPOSITORY / "deploy/edge/segments-local.conf").read_text()
    for container in containers_of(deployment("streamer", documents)):
        assert {"name": "work", "mountPath": "/work", "readOnly": True} in container["volumeMounts"]


def test_chart_restarts_pods_when_the_configuration_changes():
    def checksum(*arguments):
        (found,) = set(re.findall("checksum/config: (.*)", helm_text(*arguments)))
        return found

    assert checksum() != checksum("--set", "config.LOG_LEVEL=DEBUG")


def test_chart_writes_numbers_as_the_services_read_them(tmp_path):
    """Helm makes floats of the numbers in a file of values."""
    written = {"SANDBOX_MEMORY_BYTES": 12884901888, "RETRY_SECONDS": 0.5, "DELETE_LOCAL_AFTER_S3": True}
    values = {"config": written | {"DRAIN_SECONDS": 600, "CORS_ORIGINS": None}, "image": {"tag": 20261129}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    documents = load(helm_text("--values", str(tmp_path / "mine.yaml")))
    (config,) = [each["data"] for each in documents if each["metadata"]["name"] == "vod-config"]
    pod = deployment("uploader", documents)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "vod-pipeline:20261129"
    assert pod["terminationGracePeriodSeconds"] == 630
    assert config.get("CORS_ORIGINS", "") == ""
    assert {name: config[name] for name in written} == {
        "SANDBOX_MEMORY_BYTES": "12884901888",
        "RETRY_SECONDS": "0.5",
        "DELETE_LOCAL_AFTER_S3": "true",
    }


@pytest.mark.parametrize(("concurrency", "divisor"), [("1", ""), ("auto", ""), ("4", " / 4.0")])
def test_chart_asks_for_as_many_transcoders_as_the_chunks_in_progress_need(concurrency, divisor):
    setting = f"config.TRANSCODER_CONCURRENCY={concurrency}"
    documents = load(helm_text("--set", "keda.enabled=true", "--set-string", setting))
    (scaled,) = [each for each in documents if each["kind"] == "ScaledObject"]
    counted = f"+ chunks_being_encoded{divisor} + videos_being_planned"
    assert counted in scaled["spec"]["triggers"][0]["metadata"]["query"]


def test_chart_gives_pods_more_time_when_proxies_take_longer_to_let_go_of_them():
    def stopping(name, *arguments):
        pod = deployment(name, load(helm_text(*arguments)))["spec"]["template"]["spec"]
        waits = [each["lifecycle"]["preStop"]["sleep"]["seconds"] for each in pod["containers"]]
        return waits, pod["terminationGracePeriodSeconds"]

    longer = ("--set", "ingest.preStopSeconds=60,streamer.preStopSeconds=60")
    for name in ("ingest", "streamer"):
        waits, grace = stopping(name)
        assert stopping(name, *longer) == ([each + 50 for each in waits], grace + 50)


def test_chart_labels_the_pods_of_services():
    documents = load(helm_text("--set-string", r"podLabels.azure\.workload\.identity/use=true"))
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in documents if each["kind"] == "Deployment"
    ]
    assert {each.get("azure.workload.identity/use") for each in labels} == {"true"}


def test_chart_takes_an_image_by_digest():
    digest = "sha256:" + "0" * 64
    assert f"image: registry.example/vod@{digest}" in helm_text(
        "--set", f"image.repository=registry.example/vod,image.digest={digest}"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("cpuBurst.enabled=true", "cpuBurst needs keda.enabled=true"),
        (
            "keda.enabled=true,transcoder.replicas=4",
            "transcoder.replicas would undo what keda.enabled=true scales",
        ),
        ("config.STORAGE_TYPE=local", "config.STORAGE_TYPE=local needs work.volume.create=true"),
    ],
)
def test_chart_refuses_values_that_contradict_each_other(values, message):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        helm_text("--set", values)
    assert message in caught.value.stderr
