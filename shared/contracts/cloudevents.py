"""The envelope of every message: JSON CloudEvents 1.0 in structured mode (https://github.com/cloudevents/spec)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared.contracts.events import PAYLOADS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from shared.contracts.events import Payload

CONTENT_TYPE = "application/cloudevents+json"
NAME = re.compile(r"[A-Za-z_]{1,32}")


class Undecodable(Exception):
    """The message cannot be decoded, so its video is unknown; the text gives the reason."""


class InvalidData(Undecodable):
    """The envelope is an event of a known type, but its data breaks the schema."""

    def __init__(self, message: str, event: CloudEvent) -> None:
        super().__init__(message)
        self.event = event


class CloudEvent(BaseModel):
    """The envelope, with two extension attributes.

    `requestid` identifies the HTTP request that started the processing. `failingsince` is set on requeued
    messages: when the outage that they wait for began. It is ignored in platform events.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    type: str
    time: datetime | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    requestid: str | None = None
    failingsince: AwareDatetime | None = None
    data: dict[str, Any]


def envelope(payload: Payload, *, source: str, request_id: str | None = None) -> dict[str, Any]:
    """Wrap a payload in a new CloudEvent, ready for JSON."""
    event = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": source,
        "type": payload.type,
        "time": datetime.now(UTC).isoformat(),
        "subject": str(payload.video_id),
        "datacontenttype": "application/json",
        "data": payload.to_json(),
    }
    return event | ({"requestid": request_id} if request_id else {})


def decode(body: bytes) -> tuple[CloudEvent, Payload]:
    """Decode a message. Raises Undecodable naming the invalid field."""
    value = _read_json(body)
    try:
        event = CloudEvent.model_validate(value)
        if event.type not in PAYLOADS:
            raise Undecodable(f"unknown event type {event.type[:100]!r}")
    except ValidationError as error:
        raise Undecodable(_unstorable(value) or explain(error)) from error
    if why := _unstorable(value):
        raise InvalidData(why, event)
    try:
        return event, PAYLOADS[event.type].model_validate(event.data)
    except ValidationError as error:
        raise InvalidData(explain(error), event) from error


def _read_json(body: bytes) -> object:
    """Parse JSON without NaN."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"the body is not valid JSON: {error}") from error


def _unstorable(value: object) -> str | None:
    """Return a character that Postgres cannot store in JSON: NUL, or a lone surrogate."""
    try:
        if _holds_nul(value):
            return "the body contains the character NUL"
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "the body contains a lone surrogate, which is not a character"
    except (ValueError, RecursionError) as error:
        return f"the body is not valid JSON: {error}"
    return None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_holds_nul, value))


def explain(error: ValidationError) -> str:
    """Return one line that names the invalid fields and why."""
    faults = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{_where(fault)}: {fault['msg']}" for fault in faults[:5])


def _where(fault: ErrorDetails) -> str:
    """Return the path of a field.

    An unknown field whose name looks unusual is not quoted: it may be a secret.
    """
    *parents, last = fault["loc"] or ("body",)
    if fault["type"] == "extra_forbidden" and not NAME.fullmatch(str(last)):
        last = "an unknown field"
    return ".".join(map(str, (*parents, last)))
