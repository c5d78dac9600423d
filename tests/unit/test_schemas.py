from __future__ import annotations

import jsonschema
import pytest

from shared.contracts.cloudevents import envelope
from shared.contracts.events import PUBLIC_EVENTS, VideoUploaded
from tools.event_schemas import DOCS, documents, event_schema


def test_generated_documents_are_current():
    stale = [
        path.name for path, text in documents().items() if not path.is_file() or path.read_text() != text
    ]
    assert stale == [], "run `make schemas`"


def test_no_event_schema_is_left_over_when_an_event_is_removed():
    assert {path.stem for path in (DOCS / "events").glob("*.json")} == {event.type for event in PUBLIC_EVENTS}


def test_event_schema_accepts_what_we_send_and_refuses_what_we_refuse():
    schema = event_schema(VideoUploaded)
    jsonschema.Draft202012Validator.check_schema(schema)
    data = {"video_id": "6f1f64c0-0000-4000-8000-000000000001", "user_id": "a", "source": {"uri": "s3://b/k"}}
    event = envelope(VideoUploaded.model_validate(data), source="/platform")
    jsonschema.validate(event, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(event | {"data": {"videoId": "x"}}, schema)
