"""Writes the machine-readable contract of the events: `python -m tools.event_schemas` (or `make schemas`).

The models in shared/contracts/events.py are the source; docs/events/*.json and docs/asyncapi.json are
generated from them, and a test keeps them current.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from shared.contracts.cloudevents import CONTENT_TYPE
from shared.contracts.events import EVENTS, PUBLIC_EVENTS
from shared.messaging.topology import QUEUES

if TYPE_CHECKING:
    from shared.contracts.events import Payload

DOCS = Path(__file__).parents[1] / "docs"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
WHO_SENDS = {
    "video.uploaded": "ingest, or any internal platform",
    "video.segmented": "transcoder",
    "video.stored": "uploader",
    "video.failed": "whichever stage failed",
}


def event_schema(payload: type[Payload]) -> dict[str, Any]:
    """Return the JSON Schema of a whole message: CloudEvents envelope and data."""
    data = payload.model_json_schema(by_alias=True, mode="validation")
    definitions = data.pop("$defs", {})
    text = {"type": "string", "minLength": 1}
    return {
        "$schema": DIALECT,
        "title": payload.type,
        "description": _first_line(payload),
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": {"const": payload.type},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string", "description": "the videoId"},
            "datacontenttype": {"type": "string"},
            "requestid": {"type": "string", "description": "the HTTP request that it all began with"},
            "data": data,
        },
        "$defs": definitions,
    }


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document of the exchange that platforms use."""
    _, schemas = models_json_schema(
        [(payload, "validation") for payload in PUBLIC_EVENTS],
        by_alias=True,
        ref_template="#/components/schemas/{model}",
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Video-on-demand pipeline events",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 in structured mode: persistent, at least once, in no order.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {payload.type: _channel(payload) for payload in PUBLIC_EVENTS},
        "operations": {name: body for payload in PUBLIC_EVENTS for name, body in _operations(payload)},
        "components": {"schemas": schemas.get("$defs", {})},
    }


def _channel(payload: type[Payload]) -> dict[str, Any]:
    consumers = [name for name, bindings in QUEUES.items() if (EVENTS, payload.type) in bindings]
    return {
        "address": payload.type,
        "description": f"Sent by {WHO_SENDS[payload.type]}. Our queues: {', '.join(consumers) or 'none'}.",
        "messages": {
            payload.__name__: {
                "contentType": CONTENT_TYPE,
                "summary": _first_line(payload),
                "payload": {
                    "type": "object",
                    "required": ["specversion", "id", "source", "type", "data"],
                    "properties": {
                        "type": {"const": payload.type},
                        "data": {"$ref": f"#/components/schemas/{payload.__name__}"},
                    },
                },
            }
        },
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": EVENTS, "type": "topic", "durable": True, "autoDelete": False},
            }
        },
    }


def _operations(payload: type[Payload]) -> list[tuple[str, dict[str, Any]]]:
    """Say what the pipeline does: it sends all events, and receives uploads from platforms too."""
    actions = ["send", "receive"] if payload.type == "video.uploaded" else ["send"]
    channel = {"$ref": f"#/channels/{payload.type}"}
    return [
        (
            f"{action}{payload.__name__}",
            {"action": action, "channel": channel, "summary": _first_line(payload)},
        )
        for action in actions
    ]


def _first_line(payload: type[Payload]) -> str:
    return (payload.__doc__ or "").splitlines()[0]


def documents() -> dict[Path, str]:
    """Return every generated file's path and text."""
    files: dict[Path, Any] = {
        DOCS / "events" / f"{payload.type}.json": event_schema(payload) for payload in PUBLIC_EVENTS
    }
    files[DOCS / "asyncapi.json"] = asyncapi()
    return {path: json.dumps(body, indent=2) + "\n" for path, body in files.items()}


def main() -> None:
    """Write the generated files."""
    for path, text in documents().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
