"""Reading the form of an upload part by part, with limited memory and time."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, TypeVar

from aiohttp import BodyPartReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from pydantic import ValidationError

from services.ingest.models import UploadFields
from shared.contracts.cloudevents import explain
from shared.errors import InvalidRequest, UnsupportedEncoding, UploadStalled, UploadTooLarge
from shared.http.minimum_rate import MinimumRate, TooSlow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from aiohttp import web

FILE = "file"
FIELDS = tuple(field.alias or name for name, field in UploadFields.model_fields.items())
MAX_PARTS = 20
MAX_FIELD_BYTES = 4096
FORM_BYTES = 128 * 1024  # allowance for fields, part headers and boundaries beyond the file's size
READ_BYTES = 256 * 1024
FILENAME_CHARACTERS = 1024
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Raised by aiohttp's reader for a malformed form.
MALFORMED = (ValueError, AssertionError, RuntimeError, HttpProcessingError, RequestPayloadError)

T = TypeVar("T")


class Form:
    """A multipart body: `fields`, then `chunks` of the file, then `end`."""

    def __init__(self, request: web.Request, *, max_bytes: int, stall_seconds: float) -> None:
        """Check the headers. Raises InvalidRequest, UploadTooLarge."""
        if request.content_type != "multipart/form-data":
            raise InvalidRequest("send the file as multipart/form-data")
        if (request.content_length or 0) > max_bytes + FORM_BYTES:
            raise UploadTooLarge(f"the file is larger than {max_bytes} bytes")
        self._request, self._stall_seconds = request, stall_seconds
        self._pace = MinimumRate(window_seconds=stall_seconds)
        self._parts = 0

    async def fields(self) -> UploadFields:
        """Read the fields before the file. Raises InvalidRequest, UploadStalled."""
        self._reader = await self._read(self._request.multipart())
        raw: dict[str, str] = {}
        while (part := await self._next_up_to_file()).name != FILE:
            name = _known(part.name)
            if name in raw:
                raise InvalidRequest(f"{name}: may be given only once")
            raw[name] = await self._text(name, part)
        self._file = part
        return _checked(raw)

    @property
    def filename(self) -> str | None:
        """The client's name for the file, sanitized; None without one."""
        return clean_filename(self._file.filename)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the file as it arrives. Raises InvalidRequest, UploadStalled, ConnectionResetError."""
        while not self._file.at_eof():
            if chunk := await self._read(self._file.read_chunk(READ_BYTES)):
                self._pace.came(len(chunk))
                yield chunk

    async def end(self) -> None:
        """Check that the form is complete and that nothing unexpected follows the file."""
        while (part := await self._next()) is not None:
            if part.name == FILE:
                raise InvalidRequest("file: an upload has exactly one file")
            raise InvalidRequest(f"{_known(part.name)}: fields must come before the file")

    async def _next_up_to_file(self) -> BodyPartReader:
        part = await self._next()
        if part is None:
            raise InvalidRequest("file: the form has no part with this name")
        return part

    async def _next(self) -> BodyPartReader | None:
        part = await self._read(self._reader.next())
        self._parts += 1
        if part is not None and not isinstance(part, BodyPartReader):
            raise InvalidRequest("a part of the form is itself multipart")
        if part is not None:
            _refuse_encoding(part)
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")
        return part

    async def _text(self, name: str, part: BodyPartReader) -> str:
        text = bytearray()
        while not part.at_eof():
            text += await self._read(part.read_chunk(MAX_FIELD_BYTES))
            if len(text) > MAX_FIELD_BYTES:
                raise InvalidRequest(f"{name[:100]}: longer than {MAX_FIELD_BYTES} bytes")
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{name[:100]}: not UTF-8") from error

    async def _read(self, reading: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await self._pace.wait(reading)
        except TooSlow as error:
            raise UploadStalled(str(error)) from error
        except TimeoutError as error:
            raise UploadStalled(f"nothing arrived for {self._stall_seconds:.0f} seconds") from error
        except MALFORMED as error:
            raise InvalidRequest("The body is not valid multipart/form-data (RFC 7578)") from error


def _known(name: str | None) -> str:
    """Return the name of a field. Raises InvalidRequest for an unknown one, without quoting it."""
    if name not in FIELDS:
        raise InvalidRequest(f"the form has an unknown field; known are file, {', '.join(FIELDS)}")
    return name or ""


def _refuse_encoding(part: BodyPartReader) -> None:
    """Raise UnsupportedEncoding for an encoded part (RFC 7578, section 4.7)."""
    coding = part.headers.get("Content-Encoding", "identity").strip().lower()
    transfer = part.headers.get("Content-Transfer-Encoding", "binary").strip().lower()
    if coding != "identity" or transfer not in ("binary", "8bit", "7bit"):
        raise UnsupportedEncoding("Send each part of the form without an encoding")


def _checked(fields: dict[str, str]) -> UploadFields:
    try:
        return UploadFields.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from error


def clean_filename(name: str | None) -> str | None:
    """Return the last component of a path, without control characters and shortened; None if empty."""
    last = re.split(r"[/\\]", name or "")[-1]
    text = CONTROL.sub("", last).encode(errors="replace").decode().strip()
    return text[:FILENAME_CHARACTERS] or None
