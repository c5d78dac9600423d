"""The manifests: valid for Kubernetes, and in agreement with the code they run."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from shared.http.health import CHECK_SECONDS
from shared.messaging.topology import QUEUES
from shared.settings import Settings, load_settings
from shared.startup import START_SECONDS

REPO = Path(__file__).parents[2]
K8S = REPO / "deploy" / "k8s"
SERVICES = ("ingest", "transcoder", "uploader", "streamer")
WITH_GPU, GPU = "transcoder", "nvidia.com/gpu"
VERSIONS = ("1.30", "1.37")  # the oldest that knows preStop.sleep by default, the newest with a schema
SERVERS_AWAITED_AT_START = 3  # Postgres, RabbitMQ, storage, one after the other
UNDERSTOOD = {"apiVersion", "kind", "namespace", "images", "resources", "components", "patches"}


def load(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def render(directory, *components):
    """Do what `kubectl kustomize` does with the fields in use here, but for namespace and image tag."""
    (kustomization,) = load(directory / "kustomization.yaml")
    assert set(kustomization) <= UNDERSTOOD
    documents = []
    for name in kustomization["resources"]:
        path = (directory / name).resolve()
        documents += render(path) if path.is_dir() else load(path)
    for component in components:
        (parts,) = load(component / "kustomization.yaml")
        documents += [document for name in parts["resources"] for document in load(component / name)]
        patch(documents, component, parts["patches"])
    patch(documents, directory, kustomization.get("patches", []))
    return documents


def patch(documents, directory, patches):
    for entry in patches:
        target = (entry["target"]["kind"], entry["target"]["name"])
        (document,) = [each for each in documents if (each["kind"], each["metadata"]["name"]) == target]
        for operation in yaml.safe_load((directory / entry["path"]).read_text()):
            apply(document, operation)


def apply(document, operation):
    *parents, last = (part.replace("~1", "/") for part in operation["path"].strip("/").split("/"))
    place = document
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    assert last in place, f"{operation['path']} is not there"
    if operation["op"] == "replace":
        place[last] = operation["value"]
    else:
        assert operation["op"] == "remove"
        del place[last]


BASE = render(K8S)
CPU = render(K8S / "overlays" / "cpu")
KEDA = render(K8S, K8S / "components" / "keda")
(SECRET,) = load(K8S / "secret.example.yaml")


def of_kind(kind, documents=BASE):
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def pod(name, documents=BASE):
    return of_kind("Deployment", documents)[name]["spec"]["template"]["spec"]


def container(name, documents=BASE):
    (only,) = pod(name, documents)["containers"]
    return only


def environment():
    return of_kind("ConfigMap")["vod-config"]["data"] | SECRET["stringData"]


def main_of(service):
    return ast.parse((REPO / "services" / service / "main.py").read_text())


def default_port(service):
    for node in main_of(service).body:
        if isinstance(node, ast.Assign):
            names, values = node.targets[0], node.value
            pairs = (
                zip(names.elts, values.elts, strict=True)
                if isinstance(names, ast.Tuple)
                else [(names, values)]
            )
            for name, value in pairs:
                if isinstance(name, ast.Name) and name.id == "DEFAULT_PORT":
                    return ast.literal_eval(value)
    raise AssertionError(f"services/{service}/main.py names no DEFAULT_PORT")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("documents", [[*BASE, SECRET], CPU, KEDA], ids=["base", "cpu", "keda"])
def test_manifests_are_valid_when_checked_against_the_schemas_of_kubernetes(documents, version):
    for document in documents:
        if not document["apiVersion"].startswith("keda.sh/"):
            assert kubernetes_validate.validate(document, version, strict=True) == version


def test_the_check_refuses_a_manifest_when_a_field_is_misspelt():
    wrong = copy.deepcopy(of_kind("Deployment")["ingest"])
    wrong["spec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelectors"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_every_manifest_is_used_by_a_kustomization():
    used = {K8S / "secret.example.yaml", *K8S.rglob("kustomization.yaml")}
    for path in K8S.rglob("kustomization.yaml"):
        (kustomization,) = load(path)
        patches = [entry["path"] for entry in kustomization.get("patches", [])]
        used |= {(path.parent / name).resolve() for name in kustomization["resources"] + patches}
    assert {path for path in K8S.rglob("*") if path.is_file()} <= used


def test_every_service_has_a_deployment_that_runs_it():
    assert set(of_kind("Deployment")) == set(SERVICES)
    for name in SERVICES:
        assert container(name)["args"] == [f"services.{name}"]
        assert (REPO / "services" / name / "main.py").is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_those_of_the_service(name):
    port = default_port(name)
    assert "HTTP_PORT" not in environment()
    assert container(name)["ports"] == [{"name": "http", "containerPort": port}]
    assert of_kind("Service")[name]["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
    scraped = of_kind("Deployment")[name]["spec"]["template"]["metadata"]["annotations"]
    assert scraped == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_probes_ask_the_right_paths_and_give_the_service_its_time(name):
    here = container(name)
    startup, liveness, readiness = (here[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    paths = [probe["httpGet"]["path"] for probe in (startup, liveness, readiness)]
    assert paths == ["/healthz", "/healthz", "/readyz"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > SERVERS_AWAITED_AT_START * START_SECONDS
    assert readiness["timeoutSeconds"] > CHECK_SECONDS


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_may_take_longer_to_stop_than_its_work_drains(name):
    drain_seconds = float(environment()["DRAIN_SECONDS"])
    before = container(name).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed_seconds = before + drain_seconds + CHECK_SECONDS
    assert pod(name)["terminationGracePeriodSeconds"] > needed_seconds
    assert drain_seconds >= float(environment()["CHUNK_SECONDS"])


def test_the_workers_are_given_more_than_the_default_drain_time():
    default = Settings.model_fields["drain_seconds"].default
    for name in ("transcoder", "uploader"):
        assert pod(name)["terminationGracePeriodSeconds"] > default


def test_every_variable_is_a_setting_and_every_required_setting_is_given():
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    assert set(environment()) <= set(fields)
    assert {name for name, field in fields.items() if field.is_required()} <= set(environment())
    for name in SERVICES:
        given = [next(iter(source.values()))["name"] for source in container(name)["envFrom"]]
        assert given == ["vod-config", SECRET["metadata"]["name"]]


def test_secrets_are_in_the_secret_only():
    secret = {name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    assert not {name.upper() for name in secret} & set(of_kind("ConfigMap")["vod-config"]["data"])


@pytest.mark.parametrize("documents", [BASE, CPU], ids=["base", "cpu"])
def test_a_service_accepts_the_configuration(documents, monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in (environment() | of_kind("ConfigMap", documents)["vod-config"]["data"]).items():
        monkeypatch.setenv(name, value)
    assert load_settings(Settings, 8080).encoder == ("h264_nvenc" if documents is BASE else "libx264")


@pytest.mark.parametrize("name", SERVICES)
def test_the_shared_volume_lies_at_work_dir(name):
    (claim,) = of_kind("PersistentVolumeClaim").values()
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container(name)["volumeMounts"]}
    work = mounts[environment()["WORK_DIR"]]
    assert volumes[work["name"]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert work.get("readOnly", False) == (name == "streamer")
    assert "emptyDir" in volumes[mounts["/tmp"]["name"]]


def test_only_the_transcoder_asks_for_a_gpu_and_for_its_nodes():
    with_gpu = [name for name in SERVICES if GPU in container(name)["resources"]["limits"]]
    placed = [name for name in SERVICES if {"nodeSelector", "tolerations"} & set(pod(name))]
    assert (with_gpu, placed) == ([WITH_GPU], [WITH_GPU])
    assert "video" in container(WITH_GPU)["env"][0]["value"].split(",")


def test_no_trace_of_a_gpu_is_left_when_the_cpu_overlay_is_applied():
    assert not re.search("nvidia|nvenc", yaml.safe_dump_all(CPU))


@pytest.mark.parametrize("name", SERVICES)
def test_pods_keep_to_the_restricted_security_standard(name):
    outer, inner = pod(name)["securityContext"], container(name)["securityContext"]
    assert outer["runAsNonRoot"]
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert outer["fsGroup"] == outer["runAsGroup"]
    assert inner == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod(name)["automountServiceAccountToken"]
    assert {"cpu", "memory"} <= set(container(name)["resources"]["requests"])
    assert "memory" in container(name)["resources"]["limits"]


@pytest.mark.parametrize("name", SERVICES)
def test_selectors_match_the_labels_of_the_pods(name):
    deployment = of_kind("Deployment")[name]["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    selectors = [deployment["selector"]["matchLabels"], of_kind("Service")[name]["spec"]["selector"]]
    selectors += [each["labelSelector"]["matchLabels"] for each in pod(name)["topologySpreadConstraints"]]
    if name in (budgets := of_kind("PodDisruptionBudget")):
        selectors.append(budgets[name]["spec"]["selector"]["matchLabels"])
    assert all(selector.items() <= labels for selector in selectors)
    assert ("app.kubernetes.io/name", name) in selectors[0].items()


def test_what_scales_by_itself_has_no_fixed_number_of_replicas():
    assert (
        set(of_kind("HorizontalPodAutoscaler"))
        == set(of_kind("PodDisruptionBudget"))
        == {"ingest", "streamer"}
    )
    (scaled,) = of_kind("ScaledObject", KEDA).values()
    scalers = [*of_kind("HorizontalPodAutoscaler").values(), scaled]
    targets = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers}
    assert targets == {"ingest", "streamer", "transcoder"}
    assert not [name for name in targets if "replicas" in of_kind("Deployment", KEDA)[name]["spec"]]


def test_keda_watches_the_queues_of_chunks_with_the_url_from_the_secret():
    (scaled,) = of_kind("ScaledObject", KEDA).values()
    (login,) = of_kind("TriggerAuthentication", KEDA).values()
    triggers = scaled["spec"]["triggers"]
    assert {trigger["type"] for trigger in triggers} == {"rabbitmq"}
    queues = [trigger["metadata"]["queueName"] for trigger in triggers]
    assert queues == ["transcoder.first", "transcoder.bulk"]
    assert set(queues) <= set(QUEUES)
    for trigger in triggers:
        assert set(trigger["metadata"]) == {"protocol", "queueName", "mode", "value"}
        assert trigger["authenticationRef"] == {"name": login["metadata"]["name"]}
    (host,) = login["spec"]["secretTargetRef"]
    assert (host["parameter"], host["name"]) == ("host", SECRET["metadata"]["name"])
    assert host["key"] in SECRET["stringData"]
    assert scaled["spec"]["minReplicaCount"] >= 1  # no trigger sees transcoder.plan


def test_the_image_runs_as_the_user_of_the_pods_and_finds_what_it_copies():
    dockerfile = (REPO / "deploy" / "Dockerfile").read_text()
    security = pod("ingest")["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}\n" in dockerfile
    assert 'ENTRYPOINT ["python", "-m"]\n' in dockerfile
    let_through = (REPO / ".dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (\S+) \S+$", dockerfile, re.MULTILINE):
        assert f"!{source}" in let_through
        assert (REPO / source).exists()
