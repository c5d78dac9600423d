"""Plans and messages of every earlier version can be read by today's code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter

from services.transcoder.command.chunk import chunk_argv
from services.transcoder.encode.gpu_fallback import Strategy
from services.transcoder.encode.time_limits import longest_run_seconds
from services.transcoder.plan.former_ladder import kept_of
from services.transcoder.plan.model import FOR_PEOPLE, Plan
from services.transcoder.plan.versions import VERSION, NewerPlan, OutdatedPlan, upgrade
from shared.contracts.cloudevents import decode
from shared.contracts.events import PAYLOADS
from shared.hls.renditions import RenditionSet
from tests.stored import VIDEO_ID, names, stored
from tests.unit.transcoder_values import plan

if TYPE_CHECKING:
    from collections.abc import Iterator

PLANS, MESSAGES = names("plans"), names("messages")
AGAIN = "python -m tests.stored.record NAME"


@pytest.mark.parametrize("name", PLANS)
def test_stored_plan_is_read(name):
    value = stored("plans", name)
    read = Plan.from_json(value["plan"])
    assert read.version == VERSION
    assert [read.frames_in(chunk) for chunk in read.chunks] == [(25,), (25, 25), (30,)]
    assert RenditionSet.from_json(value["presentation"]).renditions == (("96p", 256, 96),)


@pytest.mark.parametrize(
    ("name", "type_"), [(name, type_) for name in MESSAGES for type_ in stored("messages", name)]
)
def test_stored_message_is_read(name, type_):
    event, payload = decode(json.dumps(stored("messages", name)[type_]).encode())
    assert (event.type, payload.video_id) == (type_, UUID(VIDEO_ID))
    assert type(payload) is PAYLOADS[type_]


def test_every_field_of_a_plan_is_in_a_record():
    recorded = [set(_paths(stored("plans", name)["plan"])) for name in PLANS]
    fields = {
        path for path in _fields(TypeAdapter(Plan).json_schema()) if path.split(".")[1] not in FOR_PEOPLE
    }
    missing = {path for path in fields if not _is_in(path, recorded)}
    assert not missing, f"no stored plan has {missing}: {AGAIN}"


@pytest.mark.parametrize("type_", PAYLOADS)
def test_every_field_of_a_message_is_in_a_record(type_):
    records = [stored("messages", name) for name in MESSAGES]
    recorded = [set(_paths(record[type_]["data"])) for record in records if type_ in record]
    fields = _fields(PAYLOADS[type_].model_json_schema(by_alias=True))
    missing = {path for path in fields if not _is_in(path, recorded)}
    assert not missing, f"no stored {type_} has {missing}: {AGAIN}"


def _paths(value: Any, at: str = "") -> Iterator[str]:
    """Yield where a JSON value has members; `at*` where it is null or empty and could have some."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield f"{at}.{name}"
            yield from _paths(part, f"{at}.{name}")
    elif isinstance(value, list) and value:
        yield from _paths(value[0], at)
    elif value is None or value == []:
        yield f"{at}*"


def _fields(schema: Any, at: str = "", definitions: Any = None) -> Iterator[str]:
    """Yield the members that a JSON schema mentions."""
    definitions = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        yield from _fields(definitions[schema["$ref"].rsplit("/", 1)[1]], at, definitions)
    for choice in schema.get("anyOf", ()):
        yield from _fields(choice, at, definitions)
    if isinstance(schema.get("items"), dict):
        yield from _fields(schema["items"], at, definitions)
    for name, part in schema.get("properties", {}).items():
        yield f"{at}.{name}"
        yield from _fields(part, f"{at}.{name}", definitions)


def _is_in(path: str, recorded: list[set[str]]) -> bool:
    parents = [path[:place] + "*" for place, letter in enumerate(path) if letter == "." and place]
    return any(path in record or not record.isdisjoint(parents) for record in recorded)


def test_part_of_a_plan_is_all_that_its_chunk_needs():
    whole = plan()
    for chunk in whole.chunks:
        part = Plan.from_json(json.loads(json.dumps(whole.part(chunk.index).to_json())))
        assert (part.chunk(chunk.index), part.frames_in(chunk)) == (chunk, whole.frames_in(chunk))
        assert part.seconds_in(chunk) == whole.seconds_in(chunk)
        for is_tolerant in (False, True):
            way = Strategy("libx264", decodes_on_gpu=False, is_tolerant=is_tolerant)
            assert longest_run_seconds(part, chunk, way) == longest_run_seconds(whole, chunk, way)
            command, own = (
                chunk_argv(each, chunk, "in.mp4", "out", "libx264", tolerant=is_tolerant)
                for each in (whole, part)
            )
            assert own == command
        with pytest.raises(LookupError):
            part.chunk(chunk.index + 1)


def test_plan_is_upgraded_step_by_step():
    steps = {1: lambda old: {**old, "version": 2, "two": True}, 2: lambda old: {**old, "version": 3}}
    assert upgrade({"version": 1}, version=3, upgrades=steps) == {"version": 3, "two": True}
    with pytest.raises(OutdatedPlan, match="cannot be upgraded to 3"):
        upgrade({"version": 0}, version=3, upgrades=steps)


def test_newer_plan_is_left_to_a_newer_transcoder():
    with pytest.raises(NewerPlan, match="update the transcoders"):
        Plan.from_json(plan().to_json() | {"version": VERSION + 1})


@pytest.mark.parametrize("change", [{"version": 0}, {"version": "one"}, {"rungs": 5}, {"chunks": [None]}])
def test_plan_that_nothing_can_upgrade_is_outdated(change):
    with pytest.raises(OutdatedPlan):
        Plan.from_json(plan().to_json() | change)


def test_ladder_and_segments_of_an_outdated_plan_are_kept():
    whole = plan()
    kept = kept_of({**whole.to_json(), "version": 0})
    assert kept is not None
    assert (kept.rungs, kept.segment_seconds) == (whole.rungs, whole.segment_seconds)


@pytest.mark.parametrize("former", [None, {}, {"rungs": [], "segment_seconds": "10"}])
def test_nothing_of_an_unreadable_plan_is_kept(former):
    assert kept_of(former) is None
