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
from shared.settings import load_settings
from shared.startup import START_SECONDS
from tests.cluster.program_paths import K8S, find
from tests.cluster.render import kustomize, load, own_overlay
from tests.unit.service_settings import settings_of

pytestmark = pytest.mark.skipif(
    not find("kubectl"), reason="kubectl is missing (`make test-cluster` builds it)"
)

REPO = Path(__file__).parents[2]
SERVICES = ("ingest", "transcoder", "uploader", "streamer")
VARIANTS = {"transcoder-plan": "transcoder", "transcoder-cpu": "transcoder"}
GPU = "nvidia.com/gpu"
VERSIONS = ("1.30", "1.37")  # the oldest that knows preStop.sleep by default, the newest with a schema
SERVERS_AWAITED_AT_START = 3  # Postgres, RabbitMQ, storage, one after the other
MEMORY = {"Gi": 1024**3, "Mi": 1024**2}
OWN_KINDS = ("keda.sh/",)  # no official schema
(SECRET,) = load((K8S / "secret.example.yaml").read_text())
DIRECTORIES = {
    "gpu": K8S,
    "cpu": K8S / "overlays/cpu",
    "example": K8S / "overlays/example",
    "full": K8S / "overlays/full",
    "volume": K8S / "overlays/volume",
}


@pytest.fixture(params=DIRECTORIES)
def documents(request):
    return kustomize(DIRECTORIES[request.param])


def of_kind(kind, documents):
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def workloads(documents):
    return {**of_kind("Deployment", documents), **of_kind("Job", documents)}


def pods(documents):
    return {name: each["spec"]["template"]["spec"] for name, each in workloads(documents).items()}


def service_containers(documents):
    """Return the containers that run a service, by Deployment."""
    deployments = of_kind("Deployment", documents)
    return {name: each["spec"]["template"]["spec"]["containers"][0] for name, each in deployments.items()}


def all_containers(documents):
    return [each for pod in pods(documents).values() for each in pod["containers"]]


def service_of(deployment):
    return VARIANTS.get(deployment, deployment)


def config_of(documents):
    (config,) = [
        each for name, each in of_kind("ConfigMap", documents).items() if name.startswith("vod-config-")
    ]
    return config["data"]


def environment_of(container, documents):
    own = {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}
    return config_of(documents) | secrets_of(container) | own


def secrets_of(container):
    """Return what a container gets of the Secret of the documentation."""
    given = SECRET["stringData"]
    if any("secretRef" in source for source in container["envFrom"]):
        return given
    taken = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
    assert all(each["key"] in given or each.get("optional") for each in taken)
    return {each["key"]: given[each["key"]] for each in taken if each["key"] in given}


def number_of_bytes(text):
    return int(text[:-2]) * MEMORY[text[-2:]]


def default_port(service):
    main = ast.parse((REPO / "services" / service / "main.py").read_text())
    for node in main.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            names = [each.id for each in node.targets[0].elts]
            if "DEFAULT_PORT" in names:
                return ast.literal_eval(node.value.elts[names.index("DEFAULT_PORT")])
    raise AssertionError(f"services/{service}/main.py names no DEFAULT_PORT")


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_when_checked_against_the_schemas_of_kubernetes(documents, version):
    for document in [*documents, SECRET]:
        if not document["apiVersion"].startswith(OWN_KINDS):
            assert kubernetes_validate.validate(document, version, strict=True) == version


def test_the_check_refuses_a_manifest_when_a_field_is_misspelt():
    wrong = copy.deepcopy(of_kind("Deployment", kustomize())["ingest"])
    wrong["spec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelectors"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_every_deployment_runs_a_service(documents):
    containers = service_containers(documents)
    assert {service_of(name) for name in containers} == set(SERVICES)
    for name, container in containers.items():
        assert container["args"] == [f"services.{service_of(name)}"]


def test_ports_are_those_of_the_service(documents):
    for name, container in service_containers(documents).items():
        port = default_port(service_of(name))
        assert "HTTP_PORT" not in environment_of(container, documents)
        assert container["ports"] == [{"name": "http", "containerPort": port}]
        target = "edge" if name == "streamer" else "http"
        (given,) = of_kind("Service", documents)[name]["spec"]["ports"]
        assert given == {"name": "http", "port": port, "targetPort": target}
        scraped = of_kind("Deployment", documents)[name]["spec"]["template"]["metadata"]["annotations"]
        assert (
            scraped.items()
            >= {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(port),
                "prometheus.io/path": "/metrics",
            }.items()
        )


def test_probes_request_the_right_paths_and_leave_enough_time(documents):
    for here in service_containers(documents).values():
        startup, liveness, readiness = (here[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
        paths = [probe["httpGet"]["path"] for probe in (startup, liveness, readiness)]
        assert paths == ["/healthz", "/healthz", "/readyz"]
        patience_seconds = startup["periodSeconds"] * startup["failureThreshold"]
        assert patience_seconds > SERVERS_AWAITED_AT_START * START_SECONDS
        assert readiness["timeoutSeconds"] > CHECK_SECONDS


def test_a_pod_may_take_longer_to_stop_than_its_drain_lasts(documents):
    for name, container in service_containers(documents).items():
        drain_seconds = float(environment_of(container, documents)["DRAIN_SECONDS"])
        before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pods(documents)[name]["terminationGracePeriodSeconds"] > before + drain_seconds + CHECK_SECONDS


def test_ingest_drains_longest_and_is_scaled_down_slowest(documents):
    containers = service_containers(documents)
    drains = {
        name: float(environment_of(each, documents)["DRAIN_SECONDS"]) for name, each in containers.items()
    }
    assert drains["ingest"] > max(seconds for name, seconds in drains.items() if name != "ingest")
    scaling = of_kind("HorizontalPodAutoscaler", documents)["ingest"]["spec"]["behavior"]["scaleDown"]
    assert scaling["stabilizationWindowSeconds"] >= 600
    assert [policy["value"] for policy in scaling["policies"]] == [1]


def test_the_edge_stops_before_the_streamer_that_it_asks(documents):
    streamer, edge = pods(documents)["streamer"]["containers"]
    waits = [each["lifecycle"]["preStop"]["sleep"]["seconds"] for each in (edge, streamer)]
    assert waits == sorted(set(waits))


def test_every_service_accepts_its_configuration(documents, monkeypatch):
    for name, container in service_containers(documents).items():
        settings = settings_of(service_of(name))
        with monkeypatch.context() as patched:
            for field in settings.model_fields:
                patched.delenv(field.upper(), raising=False)
            for variable, value in environment_of(container, documents).items():
                patched.setenv(variable, value)
            loaded = load_settings(settings, default_port(service_of(name)))
        assert loaded.drain_seconds > 0


def test_every_variable_is_a_setting_and_comes_from_the_config_and_the_secret(documents):
    of_image = {"NVIDIA_DRIVER_CAPABILITIES"}
    for name, container in service_containers(documents).items():
        known = {field.upper() for each in SERVICES for field in settings_of(each).model_fields}
        assert set(environment_of(container, documents)) <= known | of_image
        config, *secret = (next(iter(source.values()))["name"] for source in container["envFrom"])
        assert config in of_kind("ConfigMap", documents), name
        assert secret in ([], [SECRET["metadata"]["name"]]), name


def test_variables_of_one_container_are_settings_of_its_service(documents):
    for name, container in service_containers(documents).items():
        known = {field.upper() for field in settings_of(service_of(name)).model_fields}
        own = {each["name"] for each in container.get("env", [])}
        assert own <= known | {"NVIDIA_DRIVER_CAPABILITIES"}, name
        assert not own & {"TRUSTED_PROXIES"}, "which an overlay's ConfigMap could not change then"


def test_a_container_gets_the_secrets_of_its_service_and_no_others(documents):
    for name, container in service_containers(documents).items():
        known = {field.upper() for field in settings_of(service_of(name)).model_fields}
        assert set(secrets_of(container)) == set(SECRET["stringData"]) & known, name


def test_the_migration_gets_the_address_of_postgres_alone():
    (container,) = pods(kustomize(DIRECTORIES["full"]))["vod-migrate"]["containers"]
    assert "envFrom" not in container
    assert [each["name"] for each in container["env"]] == ["DATABASE_URL"]


def test_secrets_are_in_the_secret_only(documents):
    fields = [pair for each in SERVICES for pair in settings_of(each).model_fields.items()]
    secret = {name.upper() for name, field in fields if "Secret" in str(field.annotation)}
    assert not secret & set(config_of(documents))


def test_memory_of_a_transcoder_is_above_what_its_sandbox_allows(documents):
    for name, container in service_containers(documents).items():
        if service_of(name) == "transcoder":
            environment = environment_of(container, documents)
            wanted = int(environment["SANDBOX_MEMORY_BYTES"]) * int(environment["TRANSCODER_CONCURRENCY"])
            assert number_of_bytes(container["resources"]["limits"]["memory"]) >= wanted + 2**30


def test_disk_of_a_pod_is_above_the_sum_of_its_scratch_space(documents):
    for name, pod in pods(documents).items():
        scratch = [each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if "emptyDir" in each]
        limits = [each["resources"]["limits"]["ephemeral-storage"] for each in pod["containers"]]
        assert sum(map(number_of_bytes, limits)) > sum(map(number_of_bytes, scratch)), name
        assert all("ephemeral-storage" in each["resources"]["requests"] for each in pod["containers"])


def test_only_its_overlay_claims_a_volume(documents, request):
    claims = of_kind("PersistentVolumeClaim", documents)
    assert config_of(documents)["WORK"] == ("volume" if claims else "bucket")
    assert [each["spec"]["accessModes"] for each in claims.values()] in ([], [["ReadWriteMany"]])
    assert list(of_kind("PersistentVolumeClaim", kustomize(DIRECTORIES["volume"]))) == ["vod-work"]
    for name, pod in pods(documents).items():
        mounted = [each["name"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
        uses_it = claims and name not in ("streamer", "vod-migrate")
        assert mounted == (["work"] if uses_it else []), name
    for container in service_containers(documents).values():
        mounts = {each["mountPath"] for each in container["volumeMounts"]}
        assert mounts >= {"/tmp"}


def test_only_transcoders_ask_for_a_gpu_and_for_its_nodes():
    documents = kustomize(DIRECTORIES["full"])
    containers = service_containers(documents)
    with_gpu = [name for name, each in containers.items() if GPU in each["resources"]["limits"]]
    assert with_gpu == ["transcoder"]
    tolerant = {
        name for name, pod in pods(documents).items() if GPU in [t["key"] for t in pod.get("tolerations", [])]
    }
    assert tolerant == {"transcoder"}
    encoders = {name: environment_of(each, documents)["ENCODER"] for name, each in containers.items()}
    assert {name for name, encoder in encoders.items() if encoder == "h264_nvenc"} == {"transcoder"}


def test_no_trace_of_a_gpu_is_left_without_its_component():
    assert not re.search("nvidia|nvenc", yaml.safe_dump_all(kustomize(DIRECTORIES["cpu"])))


def test_transcoders_together_take_every_queue_and_planners_nothing_but_plans():
    documents = kustomize(DIRECTORIES["full"])
    taken = {
        name: environment_of(container, documents).get("TRANSCODER_QUEUES", "plan,first,bulk")
        for name, container in service_containers(documents).items()
        if service_of(name) == "transcoder"
    }
    assert taken == {"transcoder": "first,bulk", "transcoder-plan": "plan", "transcoder-cpu": "bulk"}


def test_pods_keep_to_the_restricted_security_standard(documents):
    for pod in pods(documents).values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
    for container in all_containers(documents):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "cpu" not in container["resources"]["limits"]


def test_every_service_has_an_account_of_its_own_without_a_token(documents):
    accounts = of_kind("ServiceAccount", documents)
    assert set(accounts) == set(SERVICES)
    assert not any(each["automountServiceAccountToken"] for each in accounts.values())
    for name in of_kind("Deployment", documents):
        assert pods(documents)[name]["serviceAccountName"] == service_of(name)


def test_our_pods_preempt_no_others_and_only_serving_preempts_encoding(documents):
    classes = of_kind("PriorityClass", documents)
    assert all(each["value"] <= 0 for each in classes.values())
    pushing = {name for name, each in classes.items() if each["preemptionPolicy"] != "Never"}
    assert pushing == {"vod-serving"}
    used = {name: pod["priorityClassName"] for name, pod in pods(documents).items()}
    assert {name: used[name] for name in SERVICES} == dict.fromkeys(SERVICES, "vod-serving") | {
        "transcoder": "vod-encoding"
    }
    assert used.get("transcoder-cpu", "vod-bulk") == "vod-bulk"
    assert classes["vod-bulk"]["value"] < classes["vod-encoding"]["value"] < classes["vod-serving"]["value"]


def test_selectors_match_the_labels_of_their_pods_and_of_no_other(documents):
    labels = {
        name: each["spec"]["template"]["metadata"]["labels"] for name, each in workloads(documents).items()
    }
    for name, deployment in of_kind("Deployment", documents).items():
        pod = deployment["spec"]["template"]["spec"]
        selectors = [
            deployment["spec"]["selector"]["matchLabels"],
            of_kind("Service", documents)[name]["spec"]["selector"],
            of_kind("PodDisruptionBudget", documents)[name]["spec"]["selector"]["matchLabels"],
            *[each["labelSelector"]["matchLabels"] for each in pod["topologySpreadConstraints"]],
        ]
        for selector in selectors:
            assert [other for other in labels if selector.items() <= labels[other].items()] == [name]


def test_autoscaled_deployments_have_no_fixed_number_of_replicas(documents):
    scalers = {**of_kind("HorizontalPodAutoscaler", documents), **of_kind("ScaledObject", documents)}
    targets = {each["spec"]["scaleTargetRef"]["name"] for each in scalers.values()}
    fixed = {name for name, each in of_kind("Deployment", documents).items() if "replicas" in each["spec"]}
    assert fixed == set(of_kind("Deployment", documents)) - targets - {"transcoder"}


def test_every_container_counts_in_deployments_scaled_by_cpu(documents):
    for name, scaler in of_kind("HorizontalPodAutoscaler", documents).items():
        measured = [each["containerResource"]["container"] for each in scaler["spec"]["metrics"]]
        assert measured == [each["name"] for each in pods(documents)[name]["containers"]]


def test_nodes_with_caches_may_be_drained_and_those_with_busy_transcoders_may_not():
    autoscaler, karpenter = "cluster-autoscaler.kubernetes.io/safe-to-evict", "karpenter.sh/do-not-disrupt"
    annotations = {
        name: each["spec"]["template"]["metadata"]["annotations"]
        for name, each in of_kind("Deployment", kustomize(DIRECTORIES["full"])).items()
    }
    assert {name for name, each in annotations.items() if each.get(autoscaler) == "true"} == {
        *("streamer", "uploader")
    }
    for key, value in ((autoscaler, "false"), (karpenter, "true")):
        assert {name for name, each in annotations.items() if each.get(key) == value} == {
            *("transcoder", "transcoder-cpu")
        }


def test_keda_scales_on_work_in_progress_and_to_zero_and_back():
    documents = kustomize(DIRECTORIES["full"])
    (login,) = of_kind("TriggerAuthentication", documents)["vod-database"]["spec"]["secretTargetRef"]
    assert login["key"] in SECRET["stringData"]
    for scaled in of_kind("ScaledObject", documents).values():
        assert scaled["spec"]["minReplicaCount"] == 0
        for trigger in scaled["spec"]["triggers"]:
            assert trigger["type"] == "postgresql"
            assert "from encoding_backlog" in trigger["metadata"]["query"]
    encoding = of_kind("ScaledObject", documents)["transcoder"]["spec"]["triggers"][0]["metadata"]["query"]
    assert "chunks_being_encoded" in encoding


def test_keda_starts_a_transcoder_for_a_video_to_plan_where_no_planner_does():
    triggers = load((K8S / "components/keda/scaled-object.yaml").read_text())[0]["spec"]["triggers"]
    (queue,) = [each["metadata"]["queueName"] for each in triggers if each["type"] == "rabbitmq"]
    assert queue in QUEUES
    (query,) = [each["metadata"]["query"] for each in triggers if each["type"] == "postgresql"]
    assert "videos_being_planned" in query


def test_a_changed_configuration_restarts_the_pods(documents):
    names = list(of_kind("ConfigMap", documents))
    assert all(re.fullmatch(r"vod-(config|edge)-[a-z0-9]{10}", name) for name in names)


def test_edge_serves_local_storage_according_to_its_rules():
    ours = (K8S / "components/local-storage/segments.conf").read_text()
    assert ours == (REPO / "deploy/edge/segments-local.conf").read_text()


def test_the_image_runs_as_the_user_of_the_pods_and_finds_what_it_copies():
    dockerfile = (REPO / "deploy" / "Dockerfile").read_text()
    security = pods(kustomize())["ingest"]["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}\n" in dockerfile
    assert 'ENTRYPOINT ["tini", "--", "python", "-m"]\n' in dockerfile
    let_through = (REPO / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for source in sources.split():
            above = {str(each) for each in (Path(source), *Path(source).parents)}
            assert above & {line.removeprefix("!") for line in let_through if line.startswith("!")}
            assert [*REPO.glob(source)]


@pytest.mark.parametrize("cloud", ["aws", "google", "azure"])
def test_the_cloud_gives_its_identity_to_every_pod_of_a_service(cloud, tmp_path):
    """The annotation names the role; Azure's webhook looks only at pods with its label."""
    text = f"resources: [../full]\ncomponents: [../../examples/cloud-identity/{cloud}]\n"
    documents = kustomize(own_overlay(tmp_path, text))
    assert all(each["metadata"]["annotations"] for each in of_kind("ServiceAccount", documents).values())
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in of_kind("Deployment", documents).values()
    ]
    marked = [each.get("azure.workload.identity/use") == "true" for each in labels]
    assert set(marked) == {cloud == "azure"}


def test_proxies_expose_neither_metrics_nor_states():
    """Also at the public port of ingest: from outside only what these examples list can be reached."""
    paths = []
    for document in load((K8S / "examples/ingress-nginx.yaml").read_text()):
        rules = [rule for each in document["spec"]["rules"] for rule in each["http"]["paths"]]
        paths += [(rule["path"], rule["pathType"]) for rule in rules]
    for document in load((K8S / "examples/gateway-api.yaml").read_text()):
        matches = [each for rule in document["spec"].get("rules", []) for each in rule["matches"]]
        paths += [(each["path"]["value"], each["path"]["type"]) for each in matches]
    assert {path for path, _ in paths} == {
        *("/api/", "/openapi.json", "/api/stream/", "/watch/"),
        *("/api", "/api/stream", "/watch"),
    }
