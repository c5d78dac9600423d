"""The OpenAPI 3.1 document of the player API; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from shared.artifacts import ARTIFACTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    Json = dict[str, Any]

PATTERN: Final = re.compile(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}")
PARAMETER: Final = re.compile(r"\{(\w+)\}")
PROBLEM: Final = "application/problem+json"
MEDIA: Final = {
    ".m3u8": "application/vnd.apple.mpegurl",
    **{artifact.object_name: artifact.media_type for artifact in ARTIFACTS},
}
PARAMETERS: Final = {
    "video_id": "The id of the video",
    "token": "A playback token; private videos are only under these paths",
    "grant": "A grant that the playlist of a private video contains",
    "rendition": "The name of a rendition, such as 720p",
    "segment": "The name of a segment, such as segment_001.ts",
}
DESCRIPTION: Final = (
    "HLS playlists, segments and thumbnails. Errors are problem details (RFC 9457) with a stable `reason`;"
    " every answer carries `X-Request-Id`."
)
ANSWERS: Final = {
    "200": "The file",
    "206": "The requested range",
    "304": "The player has this version",
    "401": "The video is private: a token is needed",
    "403": "The token does not allow this",
    "404": "There is no such video or file, or it is not ready yet (`not_ready_yet`, with Retry-After)",
    "416": "The file has none of the requested bytes",
    "503": "A dependency is unavailable, or the video is in a storage that is not configured here",
}


def describe(paths: Iterable[str]) -> Json:
    """Return the document for these routes, given in aiohttp's notation."""
    plain = [PATTERN.sub(r"{\1}", path) for path in paths]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Video streamer",
            "version": "1",
            "description": DESCRIPTION,
        },
        "paths": {path: {method: _operation(path, method) for method in ("get", "head")} for path in plain},
        "components": {"schemas": {"Problem": _problem()}},
    }


def _operation(path: str, method: str) -> Json:
    return {
        "operationId": "_".join([method, *re.findall(r"\w+", path)]),
        "summary": f"Read {path.rpartition('/')[2]}",
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": PARAMETERS.get(name, name),
            }
            for name in PARAMETER.findall(path)
        ],
        "responses": {status: _response(status, text, path) for status, text in ANSWERS.items()},
    }


def _response(status: str, text: str, path: str) -> Json:
    if status in ("200", "206"):
        media = next((kind for end, kind in MEDIA.items() if path.endswith(end)), "video/mp2t")
        return {"description": text, "content": {media: {}}}
    if status == "304":
        return {"description": text}
    return {"description": text, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _problem() -> Json:
    fields = {name: {"type": "string"} for name in ("type", "title", "reason", "detail")}
    return {"type": "object", "properties": fields | {"status": {"type": "integer"}}}
