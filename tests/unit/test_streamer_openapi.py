from __future__ import annotations

from services.streamer.openapi import describe
from services.streamer.routes import paths


def test_document_describes_every_route_of_players() -> None:
    document = describe(paths())
    assert len(document["paths"]) == len(list(paths()))
    assert "/api/stream/{video_id}/master.m3u8" in document["paths"]
    assert "/api/stream/{video_id}/t/{token}/{rendition}/{segment}" in document["paths"]
    segment = document["paths"]["/api/stream/{video_id}/{rendition}/{segment}"]["get"]
    assert [parameter["name"] for parameter in segment["parameters"]] == ["video_id", "rendition", "segment"]
    assert segment["responses"]["200"]["content"] == {"video/mp2t": {}}
    assert set(segment["responses"]) >= {"206", "304", "404", "416", "503"}
