"""What anyone can send over HTTP: heads, headers, cursors, forms, bodies."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from aiohttp import StreamReader
from aiohttp.test_utils import make_mocked_request
from hypothesis import strategies as st
from multidict import CIMultiDict
from pydantic import ValidationError

from services.ingest.auth.caller import bearer_key
from services.ingest.cursors import decode_cursor, encode_cursor
from services.ingest.http.form import Form, clean_filename
from services.ingest.models import NewKey, Preferences, PresetList, UploadFields, VideoQuery
from services.streamer.byte_ranges import Unsatisfiable, parse_range
from services.streamer.conditional_requests import accepts_gzip, choose_reply, parse_date
from shared.errors import InvalidRequest, PipelineError, Unauthorized
from shared.http.problems import status_of
from shared.storage.interface import StoredObject
from tests.fuzz.budget import fuzz
from tests.fuzz.test_events import JSON
from tests.unit.test_malformed_requests import SECRET, served

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
DIGITS = st.integers(min_value=-5, max_value=10**25).map(str)
DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Sun", "Xxx", ""]),
    DIGITS | st.just("01"),
    st.sampled_from(["Jan", "Feb", "Dec", "Foo", ""]),
    DIGITS | st.sampled_from(["2024", "0001", "0000", "9999", "99"]),
    *[DIGITS | st.just("00")] * 3,
    st.sampled_from(["GMT", "UTC", "-0000", "+9999", "-2359", "EST", ""]) | DIGITS,
)
RANGES = st.builds("{}={}-{}{}".format, st.sampled_from(["bytes", "BYTES", "x"]), DIGITS, DIGITS, HEADER)
STORED = StoredObject(key="k", bytes=1000, etag='"e"', modified=datetime(2024, 1, 1, tzinfo=UTC))


def test_a_date_is_read_or_ignored() -> None:
    fuzz(DATES | HEADER, lambda text: str(parse_date(text)))


def test_an_accepted_encoding_is_read_or_ignored() -> None:
    fuzz(HEADER | st.lists(st.sampled_from(["gzip", ";q=", "0", "nan", ",", "*"])).map("".join), accepts_gzip)


def _check_range(value: tuple[str, int]) -> None:
    header, size = value
    try:
        part = parse_range(header, size)
    except Unsatisfiable:
        return
    if part:
        assert 0 <= part.start < part.start + part.length <= size


def test_a_range_lies_within_the_object() -> None:
    fuzz(st.tuples(RANGES | HEADER, st.integers(0, 10**12)), _check_range)


def _check_conditions(headers: dict[str, str]) -> None:
    reply = choose_reply(CIMultiDict(headers), STORED)
    assert 0 <= reply.start <= reply.start + reply.length <= STORED.bytes


def test_conditions_of_a_request_lead_to_a_part_of_the_object() -> None:
    tags = st.sampled_from(['"e"', 'W/"e"', "*", '"x"']) | HEADER
    values = {
        "If-None-Match": tags,
        "If-Modified-Since": DATES | HEADER,
        "If-Range": DATES | tags,
        "Range": RANGES | HEADER,
    }
    fuzz(st.fixed_dictionaries({}, optional=values), _check_conditions)


def _check_cursor(text: str) -> None:
    try:
        created_at, video_id = decode_cursor(text)
    except InvalidRequest:
        return
    assert isinstance(video_id, UUID)
    assert created_at.astimezone(UTC) == created_at  # what the database driver does with it
    assert decode_cursor(encode_cursor(created_at, video_id)) == (created_at, video_id)


def test_a_cursor_is_one_that_the_database_can_compare_or_refused() -> None:
    zones = st.timezones() | st.sampled_from(
        [datetime.strptime(z, "%z").tzinfo for z in ("+2359", "-2359", "+0000")]
    )
    made = st.builds(encode_cursor, st.datetimes(timezones=zones), st.uuids())
    edges = st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"]).map(
        lambda moment: encode_cursor(datetime.fromisoformat(moment), uuid4())
    )
    fuzz(made | edges | st.text(max_size=80), _check_cursor)


def _check_key(header: str) -> None:
    try:
        key = bearer_key(header)
    except Unauthorized as error:
        assert error.message
        return
    assert key in header


def test_an_authorization_header_holds_a_key_or_is_refused() -> None:
    fuzz(HEADER | st.builds("Bearer {}".format, HEADER), _check_key)


def _check_name(name: str) -> None:
    clean = clean_filename(name)
    assert clean is None or (
        0 < len(clean) <= 1024 and clean.encode() and "/" not in clean and "\0" not in clean
    )


def test_a_filename_becomes_harmless() -> None:
    fuzz(st.text(st.characters(exclude_categories=()), max_size=60), _check_name)


def _refuses(read: Callable[[Any], BaseModel]) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        try:
            read(value)
        except ValidationError as error:
            assert error.error_count()

    return check


def test_json_bodies_are_understood_or_refused() -> None:
    bodies = JSON.map(repr) | st.binary(max_size=100) | st.text(max_size=50)
    models = st.sampled_from([PresetList, Preferences, NewKey])
    fuzz(st.tuples(models, bodies), lambda pair: _refuses(pair[0].model_validate_json)(pair[1]))


def test_form_fields_and_queries_are_understood_or_refused() -> None:
    names = st.sampled_from(["title", "qualities", "userId", "limit", "cursor", "status"]) | st.text(
        max_size=5
    )
    values = st.dictionaries(names, st.text(max_size=30), max_size=4)
    models = st.sampled_from([UploadFields, VideoQuery])
    fuzz(st.tuples(models, values), lambda pair: _refuses(pair[0].model_validate)(pair[1]))


async def _read_form(body: bytes) -> None:
    reader = StreamReader(_Protocol(), 2**16, loop=asyncio.get_running_loop())  # type: ignore[arg-type]
    reader.feed_data(body)
    reader.feed_eof()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    request = make_mocked_request("POST", "/", headers=headers, payload=reader)
    form = Form(request, max_bytes=10**6, stall_seconds=60.0)
    try:
        await form.fields()
        assert form.filename is None or form.filename
        async for _ in form.chunks():
            pass
        await form.end()
    except PipelineError as error:
        assert 400 <= status_of(error) < 500
        assert SECRET not in error.message


class _Protocol:
    _reading_paused = False

    def pause_reading(self) -> None: ...

    def resume_reading(self, *_: object, **__: object) -> None: ...


PIECES = st.sampled_from(
    [
        b"--b\r\n",
        b"--b--\r\n",
        b"\r\n",
        b"Content-Disposition: form-data; name=file; filename=x\r\n\r\n",
        b"Content-Disposition: form-data; name=title\r\n\r\n",
        b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%ff%00\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=c\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Length: 10\r\n",
        b"Content-Length: -1\r\n",
        SECRET.encode(),
        b"x" * 9000,
        b"--c\r\n",
    ]
)
FORMS = st.lists(PIECES | st.binary(max_size=20), max_size=12).map(b"".join)


def test_a_form_is_read_or_refused_without_repeating_it() -> None:
    with asyncio.Runner() as runner:
        fuzz(FORMS, lambda body: runner.run(_read_form(body)))


HEAD_PIECES = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"OPTIONS ",
        b"CONNECT ",
        b"/healthz",
        b"/echo",
        b"*",
        b"http://x:99999/",
        b"//",
        b"/%ff%00%",
        b"?a=%zz",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/2.0\r\n",
        b"Host: x\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n",
        b"Expect: x\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Connection: close\r\n",
        b"X-Request-Id: a\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\0",
        b"\r",
        b"\xff",
        SECRET.encode(),
        f"Authorization: Bearer {SECRET}".encode(),
    ]
)
SOUND = st.just([b"GET ", b"/healthz", b" HTTP/1.1\r\n", b"Host: x\r\n"])
HEADS = st.tuples(SOUND | st.just([]), st.lists(HEAD_PIECES | st.binary(max_size=8), max_size=10)).map(
    lambda parts: b"".join([*parts[0], *parts[1], b"\r\n\r\n"])
)


def _check_answers(sent: bytes, answers: bytes) -> None:
    assert SECRET.encode() not in answers, sent
    for answer in answers.split(b"HTTP/1.")[1:]:
        if answer[:3] in (b"1 1", b"0 1"):
            continue  # 100 Continue
        assert answer[2:3] in b"234", (sent, answer)
        assert b"x-request-id: " in answer.lower(), (sent, answer)
        if answer[2:3] == b"4":
            assert b"application/problem+json" in answer, (sent, answer)


def test_a_request_is_answered_or_refused_without_repeating_it() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with served() as send:

            def check(sent: bytes) -> None:
                answers = asyncio.run_coroutine_threadsafe(send(sent, seconds=0.05), loop).result(10)
                _check_answers(sent, answers)

            await asyncio.to_thread(fuzz, HEADS, check)

    asyncio.run(run())
