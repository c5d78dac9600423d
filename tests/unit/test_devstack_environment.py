"""The variables that the local stack passes to its services."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from devstack.environment import (
    ENV_FILE_NAMES,
    VariableError,
    check_given,
    env_file,
    own_values,
    read_env_file,
    remember_given,
    service_values,
    transcoder_count,
)
from devstack.state import SECRETS, StackDir, State

DIRECTORY = StackDir(Path("/stack"))
PORTS = {"postgres": 11001, "rabbitmq": 11002, "seaweedfs-s3": 11003, "streamer": 11004}


def state(**given: str) -> State:
    return State(ports=dict(PORTS), secrets={name: f"{name}-secret" for name in SECRETS}, given=given)


def test_own_values_point_at_the_private_servers() -> None:
    values = own_values(DIRECTORY, state())
    assert values["DATABASE_URL"] == "postgresql://vod:postgres-secret@127.0.0.1:11001/postgres"
    assert values["RABBITMQ_URL"] == "amqp://vod:rabbitmq-secret@127.0.0.1:11002/"
    assert values["S3_ENDPOINT_URL"] == "http://127.0.0.1:11003"
    assert values["PUBLIC_STREAM_URL"] == "http://127.0.0.1:11004"
    assert values["WORK_DIR"] == "/stack/work"
    assert values["STORAGE_TYPE"] == "s3"


def test_own_values_leave_the_region_to_the_provider_when_one_is_given() -> None:
    given = state(S3_PROVIDER="garage", S3_ENDPOINT_URL="http://127.0.0.1:3900")
    assert service_values(DIRECTORY, given)["S3_REGION"] == "garage"
    assert service_values(DIRECTORY, state())["S3_REGION"] == "us-east-1"


def test_given_service_values_override_own_values() -> None:
    values = service_values(DIRECTORY, state(STORAGE_TYPE="local", DATABASE_URL="postgresql://elsewhere/db"))
    assert values["STORAGE_TYPE"] == "local"
    assert values["DATABASE_URL"] == "postgresql://elsewhere/db"
    assert values["S3_BUCKET"] == "videos"


def test_service_values_leave_out_variables_of_the_stack() -> None:
    assert "TRANSCODERS" not in service_values(DIRECTORY, state(TRANSCODERS="3"))


def test_remember_given_keeps_earlier_ones_and_takes_new_ones() -> None:
    given = remember_given({"STORAGE_TYPE": "local"}, {"HLS_SEGMENT_SECONDS": "4", "PATH": "/bin"}, {})
    assert given == {"STORAGE_TYPE": "local", "HLS_SEGMENT_SECONDS": "4"}


def test_remember_given_forgets_when_empty() -> None:
    assert remember_given({"STORAGE_TYPE": "local"}, {"STORAGE_TYPE": ""}, {}) == {}


def test_remember_given_ignores_own_values_when_env_file_was_read_into_the_shell() -> None:
    own = own_values(DIRECTORY, state())
    assert remember_given({"STORAGE_TYPE": "local"}, own, own) == {}


def test_remember_given_makes_the_work_directory_absolute() -> None:
    given = remember_given({}, {"WORK_DIR": "somewhere"}, {})
    assert Path(given["WORK_DIR"]).is_absolute()


def test_remember_given_leaves_each_service_its_own_port() -> None:
    assert remember_given({}, {"HTTP_PORT": "8080"}, {}) == {}


@pytest.mark.parametrize(("given", "count"), [({}, 1), ({"TRANSCODERS": "3"}, 3), ({"TRANSCODERS": "0"}, 0)])
def test_transcoder_count(given: dict[str, str], count: int) -> None:
    assert transcoder_count(state(**given)) == count


@pytest.mark.parametrize("count", ["two", "-1", "1.5"])
def test_transcoder_count_refuses_a_value_that_is_no_number(count: str) -> None:
    with pytest.raises(VariableError, match="TRANSCODERS"):
        transcoder_count(state(TRANSCODERS=count))


def test_env_file_holds_exactly_its_names_and_reads_back(tmp_path: Path) -> None:
    values = {name: f"value of {name}=" for name in ENV_FILE_NAMES}
    path = tmp_path / "env"
    path.write_text(env_file({**values, "TRANSCODERS": "2"}))
    assert read_env_file(path) == values


def test_env_file_can_be_read_by_a_shell(tmp_path: Path) -> None:
    url, path = "postgresql://vod@db/vod?a=1&b=it's", tmp_path / "env"
    path.write_text(env_file({"DATABASE_URL": url}))
    shell = ["sh", "-c", f'. {path}; printf %s "$DATABASE_URL"']
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout == url


def test_read_env_file_is_empty_when_there_is_none(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / "env") == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORAGE_TYPE", "ftp"),
        ("ENCODER", "av1"),
        ("HLS_SEGMENT_SECONDS", "ten"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("RABBITMQ_URL", "http://h"),
        ("S3_ENDPOINT_URL", "ftp://h"),
        ("PUBLIC_STREAM_URL", "localhost:1"),
    ],
)
def test_variables_with_which_no_service_would_start_are_refused_by_name(name, value):
    with pytest.raises(VariableError, match=f"^{name}: ") as caught:
        check_given({"WORK_DIR": "/work", name: value})
    assert "hunter2" not in str(caught.value)


def test_values_of_a_new_stack_are_accepted_before_it_has_ports():
    state = State(ports={}, secrets=dict.fromkeys(SECRETS, "secret"))
    check_given(own_values(DIRECTORY, state))


def test_variables_that_the_services_take_are_accepted():
    check_given({"WORK_DIR": "/work", "STORAGE_TYPE": "local", "SOURCE_BUCKETS": "a,b", "TRANSCODERS": "2"})
