"""The parts of the local stack as data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devstack.edge import edge_parts
from devstack.environment import optional_programs
from devstack.monitoring import monitoring_parts
from devstack.parts import DRAIN_SECONDS, SERVICES, service_parts
from devstack.programs import MissingProgramError, Programs, drop_root
from devstack.servers import PORTS, server_names, server_parts
from devstack.state import SECRETS, StackDir, State

if TYPE_CHECKING:
    from devstack.parts import Part

DIRECTORY = StackDir(Path("/stack"))
PROGRAMS = Programs(
    python=Path("/venv/bin/python"),
    rabbitmq=Path("/rabbit/server"),
    epmd=Path("/erlang/epmd"),
    postgres_bin=Path("/postgres/bin"),
    weed=Path("/venv/bin/weed"),
    postgres_uid=65534,
    as_postgres=("setpriv", "--reuid=65534"),
)
NAMES = [*(port for ports in PORTS.values() for port in ports), "ingest", "uploader", "streamer"]
NUMBERS = {name: 11000 + n for n, name in enumerate([*NAMES, "transcoder-1", "transcoder-2", "transcoder-3"])}


def state(**given: str) -> State:
    return State(ports=dict(NUMBERS), secrets={name: f"{name}-secret" for name in SECRETS}, given=given)


def parts(**given: str) -> dict[str, Part]:
    remembered = state(**given)
    defined = server_parts(DIRECTORY, remembered, PROGRAMS) + service_parts(DIRECTORY, remembered, PROGRAMS)
    return {part.name: part for part in defined}


def fingerprints(**given: str) -> dict[str, str]:
    return {name: part.fingerprint for name, part in parts(**given).items()}


def test_parts_are_four_servers_and_four_services() -> None:
    assert list(parts()) == [
        *("epmd", "rabbitmq", "postgres", "seaweedfs"),
        *("ingest", "transcoder-1", "uploader", "streamer"),
    ]


def test_services_are_started_directly() -> None:
    part = parts()["transcoder-1"]
    assert part.argv == ("/venv/bin/python", "-m", "services.transcoder")
    assert part.env["HTTP_PORT"] == str(NUMBERS["transcoder-1"])
    assert part.answers == f"http://127.0.0.1:{NUMBERS['transcoder-1']}/readyz"
    assert part.grace_seconds == DRAIN_SECONDS


def test_as_many_transcoders_as_given_are_defined_each_with_its_own_port() -> None:
    found = [part for name, part in parts(TRANSCODERS="3").items() if name.startswith("transcoder")]
    assert len({part.env["HTTP_PORT"] for part in found}) == 3


def test_services_share_a_directory_with_a_work_volume_and_none_with_a_work_bucket() -> None:
    services = ("ingest", "transcoder-1", "transcoder-2", "uploader", "streamer")
    together = parts(TRANSCODERS="2")
    assert len({together[name].env["WORK_DIR"] for name in services}) == 1
    apart = parts(TRANSCODERS="2", WORK="bucket")
    assert len({apart[name].env["WORK_DIR"] for name in services}) == 5
    assert {apart[name].scratch.path for name in services if apart[name].scratch} == {
        DIRECTORY.scratch(name) for name in services
    }
    assert apart["ingest"].argv == together["ingest"].argv, "this checkout cannot be entered by other users"


def test_services_that_share_no_disk_run_as_separate_users_when_root_starts_them() -> None:
    programs = replace(PROGRAMS, separates_users=True)
    made = service_parts(DIRECTORY, state(WORK="bucket", TRANSCODERS="2"), programs)
    assert len({part.scratch.uid for part in made if part.scratch and part.scratch.uid}) == 5
    assert all(part.argv[:2] == ("setpriv", f"--reuid={part.scratch.uid}") for part in made if part.scratch)


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        ("RABBITMQ_URL", ["postgres", "seaweedfs"]),
        ("DATABASE_URL", ["epmd", "rabbitmq", "seaweedfs"]),
        ("S3_ENDPOINT_URL", ["epmd", "rabbitmq", "postgres"]),
    ],
)
def test_servers_leave_out_the_one_whose_url_was_given(variable: str, left: list[str]) -> None:
    assert server_names(state(**{variable: "given"})) == left


def test_fingerprints_change_only_for_services_when_a_variable_is_given() -> None:
    before, after = fingerprints(), fingerprints(STORAGE_TYPE="local")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name, part in parts().items() if part.stage == SERVICES}


def test_fingerprints_stay_when_transcoders_are_added() -> None:
    before, after = fingerprints(), fingerprints(TRANSCODERS="2")
    assert after == before | {"transcoder-2": after["transcoder-2"]}


def test_every_listener_is_on_loopback() -> None:
    defined = parts()
    assert "listen_addresses=127.0.0.1" in defined["postgres"].argv
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1"} <= set(defined["seaweedfs"].argv)
    assert "127.0.0.1" in defined["epmd"].argv
    conf = next(file for file in defined["rabbitmq"].files if file.path.name == "rabbitmq.conf")
    assert f"listeners.tcp.1 = 127.0.0.1:{NUMBERS['rabbitmq']}\n" in conf.text
    assert "{127,0,0,1}" in defined["rabbitmq"].env["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
    assert all(part.env["HTTP_HOST"] == "127.0.0.1" for part in defined.values() if part.stage == SERVICES)


def test_secrets_are_in_no_command_line() -> None:
    words = [word for part in parts().values() for word in part.argv]
    assert not [word for word in words if "-secret" in word]


def test_postgres_is_not_started_as_root() -> None:
    postgres = parts()["postgres"]
    assert postgres.argv[:3] == ("setpriv", "--reuid=65534", "/postgres/bin/postgres")
    assert postgres.creation is not None
    assert postgres.creation.argv[:3] == ("setpriv", "--reuid=65534", "/postgres/bin/initdb")
    assert postgres.owner == 65534


def test_drop_root_keeps_a_capability_only_when_directories_are_closed() -> None:
    assert not any("caps" in word for word in drop_root(traversable=True))
    assert "--ambient-caps=+dac_override" in drop_root(traversable=False)


def edge_of(monkeypatch: pytest.MonkeyPatch, **given: str) -> dict[str, str]:
    """Return the files of the edge by name."""
    monkeypatch.setattr("devstack.edge.NGINX", Path("/usr/bin/env"))
    remembered = state(EDGE="nginx", **given)
    remembered.ports["edge"] = 12_345
    [part] = edge_parts(DIRECTORY, remembered)
    return {file.path.name: file.text for file in part.files}


def test_edge_stands_in_front_of_the_streamer_by_the_rules_in_deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    files = edge_of(monkeypatch, CORS_ORIGINS="https://a.example, https://b.example")
    main = files["nginx.conf"]
    assert "listen 127.0.0.1:12345;" in main
    assert f"server 127.0.0.1:{NUMBERS['streamer']};" in main
    assert '"https://b.example" true;' in main
    included = set(re.findall(r"include (\S+);", "".join(files.values())))
    assert included == files.keys() - {"nginx.conf"}
    assert "proxy_cache edge_segments" in files["segments.conf"]


def test_edge_reads_the_files_of_a_local_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    files = edge_of(monkeypatch, STORAGE_TYPE="local")
    assert '"/stack/work/media";' in files["nginx.conf"]
    assert "try_files" in files["segments.conf"]


def test_edge_is_not_a_part_unless_requested() -> None:
    assert edge_parts(DIRECTORY, state()) == []


def test_edge_says_what_to_do_when_nginx_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devstack.edge.NGINX", Path("/no/such/nginx"))
    with pytest.raises(MissingProgramError, match="EDGE=nginx needs nginx: run"):
        edge_parts(DIRECTORY, state(EDGE="nginx"))


def test_prometheus_scrapes_every_service_and_evaluates_our_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devstack.monitoring.PROMETHEUS", Path("/usr/bin/env"))
    remembered = state(MONITORING="1", TRANSCODERS="2")
    remembered.ports["prometheus"] = 12_345
    [part] = monitoring_parts(DIRECTORY, remembered)
    assert "--web.listen-address=127.0.0.1:12345" in part.argv
    files = {file.path.name: file.text for file in part.files}
    configured = json.loads(files["prometheus.json"])
    assert configured["rule_files"] == ["rules.yaml"]
    assert "VodFirstChunksWait" in files["rules.yaml"]
    targets = {
        each["job_name"]: each["static_configs"][0]["targets"] for each in configured["scrape_configs"]
    }
    assert targets["transcoder"] == [f"127.0.0.1:{NUMBERS[f'transcoder-{n}']}" for n in (1, 2)]
    assert list(targets) == ["ingest", "transcoder", "uploader", "streamer"]


def test_monitoring_is_not_a_part_unless_requested_and_changes_no_service() -> None:
    assert monitoring_parts(DIRECTORY, state()) == []
    assert fingerprints(MONITORING="1") == fingerprints()


def test_monitoring_says_what_to_do_when_prometheus_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devstack.monitoring.PROMETHEUS", Path("/no/such/prometheus"))
    with pytest.raises(MissingProgramError, match="MONITORING=1 needs Prometheus: run"):
        monitoring_parts(DIRECTORY, state(MONITORING="1"))


@pytest.mark.parametrize(
    ("given", "programs"),
    [({}, []), ({"EDGE": "nginx", "MONITORING": ""}, ["nginx"]), ({"MONITORING": "1"}, ["prometheus"])],
)
def test_optional_programs_are_those_that_the_variables_need(
    given: dict[str, str], programs: list[str]
) -> None:
    assert optional_programs(given) == programs
