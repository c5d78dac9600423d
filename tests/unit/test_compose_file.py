"""compose.yaml agrees with the code and the edge's rules, and grants no access by default."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from shared.settings import Settings
from tests.unit.service_settings import SERVICES as KINDS
from tests.unit.service_settings import settings_of

REPO = Path(__file__).parents[2]
COMPOSE = REPO / "compose.yaml"
BUCKET = REPO / "deploy" / "compose" / "bucket.yaml"
SERVICES = ("ingest", "transcoder", "transcoder-gpu", "uploader", "streamer")
PORTS = {"ingest": 8080, "streamer": 8081, "transcoder": 8082, "transcoder-gpu": 8082, "uploader": 8083}
# What the driver's container toolkit and the one-shot read.
NOT_OURS = {"NVIDIA_DRIVER_CAPABILITIES", "PYTHONPATH", "BIND"}
DEFAULT = re.compile(r"\$\{(\w+):-([^}]*)\}")


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


@pytest.fixture(scope="module")
def first_start():
    path = REPO / "deploy/compose/first_start.py"
    spec = importlib.util.spec_from_file_location("first_start", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_variable_is_a_setting_of_a_service(services):
    fields = {name.upper() for kind in KINDS for name in settings_of(kind).model_fields}
    for name in (*SERVICES, "setup"):
        assert set(services[name]["environment"]) <= fields | NOT_OURS, name


def test_one_service_builds_the_image_and_the_others_wait_for_it(services):
    assert [name for name, service in services.items() if "build" in service] == ["setup"]
    for name in SERVICES:
        assert services[name]["image"] == services["setup"]["image"]
        assert "setup" in services[name]["depends_on"], name


def test_a_variable_for_one_service_is_a_setting_of_that_service(services):
    common = services["uploader"]["environment"]
    for name in SERVICES:
        own = {key for key, value in services[name]["environment"].items() if common.get(key) != value}
        known = {field.upper() for field in settings_of(name.removesuffix("-gpu")).model_fields}
        assert own <= known | NOT_OURS, name


def test_a_work_bucket_leaves_no_directory_that_two_processes_share(services):
    """As Compose merges files: variables by name, volumes by their place in the container."""
    changed = yaml.safe_load(BUCKET.read_text())["services"]
    assert set(changed) == {*SERVICES, "setup"}
    settings = {name.upper() for name in Settings.model_fields}
    for name, service in changed.items():
        assert services[name]["environment"]["WORK"] == "volume"
        assert service["environment"]["WORK"] == "bucket"
        assert set(service["environment"]) <= settings
    assert all(changed[name]["volumes"] == ["/work"] for name in SERVICES)
    assert changed["setup"]["volumes"] == ["work:/volume:ro"]


@pytest.mark.parametrize(
    ("environ", "made"),
    [
        ({"WORK": "volume", "S3_WORK_BUCKET": "other"}, ["videos"]),
        ({"WORK": "bucket", "S3_WORK_BUCKET": ""}, ["videos"]),
        ({"WORK": "bucket", "S3_WORK_BUCKET": "other"}, ["other", "videos"]),
    ],
)
def test_every_bucket_that_is_used_is_made(first_start, environ, made):
    assert first_start.buckets(environ | {"S3_BUCKET": "videos"}) == made


def test_health_is_checked_at_each_services_port(services):
    for name, port in PORTS.items():
        assert f"http://127.0.0.1:{port}/readyz" in services[name]["healthcheck"]["test"][-1]


def test_our_containers_drop_every_privilege_and_write_to_no_root_file_system(services):
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert ("cap_add" in service) == (name in {"postgres", "rabbitmq", "s3"}), name


def test_only_the_edge_is_published_and_on_this_machine_alone(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"edge": ["${BIND:-127.0.0.1}:${PORT:-8080}:8080"]}


def test_persistent_services_have_a_volume_and_restart(services):
    for name, service in services.items():
        assert service["restart"] == ("no" if name == "setup" else "unless-stopped"), name
    volumes = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    mounted = {volume.partition(":")[0] for service in services.values() for volume in service["volumes"]}
    assert volumes <= mounted


def test_files_of_the_checkout_can_be_read_under_selinux(services):
    mounted = [volume for service in services.values() for volume in service["volumes"]]
    of_checkout = [volume for volume in mounted if volume.startswith("./")]
    assert of_checkout
    assert all(volume.endswith(":ro,z") for volume in of_checkout)


def test_services_are_given_longer_to_stop_than_they_drain(services):
    for name in SERVICES:
        drain = float(services[name]["environment"]["DRAIN_SECONDS"])
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > drain


def test_the_edge_has_every_file_that_its_rules_include(services):
    mounted = {}
    for volume in services["edge"]["volumes"]:
        source, place, *_ = volume.split(":")
        if source.startswith("."):
            mounted[Path(place).name] = (REPO / source).read_text()
    assert included(mounted.values()) <= set(mounted)


def test_the_edge_of_a_pod_has_every_file_that_its_rules_include():
    rules = REPO / "deploy/edge"
    (made,) = yaml.safe_load((rules / "kustomization.yaml").read_text())["configMapGenerator"]
    files = dict(entry.split("=") if "=" in entry else (entry, entry) for entry in made["files"])
    assert included((rules / source).read_text() for source in files.values()) <= set(files)


def included(texts):
    """Return the names of all files beside them that nginx's rules include."""
    include = re.compile(r"^\s*include ([^/\s]+);", re.MULTILINE)
    return {name for text in texts for name in include.findall(text)}


def test_secrets_have_no_default_except_the_one_that_is_refused_elsewhere(first_start):
    for name, default in DEFAULT.findall(COMPOSE.read_text()):
        if re.search(r"PASSWORD|SECRET", name):
            assert (name in first_start.SECRETS, default) == (True, first_start.LOCAL_ONLY)


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.0.2.7", "::"])
def test_default_secrets_are_reported_where_others_can_reach_them(first_start, bind):
    environ = {
        "BIND": bind,
        "DATABASE_URL": "postgresql://vod:local-only@postgres/vod",
        "RABBITMQ_URL": "amqp://vod:Kx3@rabbitmq/",
        "S3_SECRET_ACCESS_KEY": "local-only",
    }
    assert first_start.weak_secrets(environ) == ["POSTGRES_PASSWORD", "S3_SECRET_ACCESS_KEY"]
    assert first_start.weak_secrets(environ | {"BIND": "127.0.0.1"}) == []
