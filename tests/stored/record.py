"""Record a plan and a message of each type as they are written today: python -m tests.stored.record NAME.

Do so when a change alters what is stored or sent; tests/unit/test_stored.py fails until then. Never edit a
record.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from services.transcoder.media import ChannelTrack, MapSection, TimeMap
from services.transcoder.plan.ladder import DEFAULT_PRESETS
from services.transcoder.plan.make_plan import make_plan
from shared.contracts import cloudevents, events
from shared.contracts.warnings import VideoWarning
from tests.media import make_clip
from tests.stored import CLIP, HERE, SOURCE_URI, VIDEO_ID

# A map of times that changes none of the clip's, but has every field.
IDENTITY = TimeMap(10**9, (MapSection(0, ((10**12, 1),)),), ((10**12, 0),), leaps=((10**9, 1),))


def messages() -> dict[str, Any]:
    """Return a message of each type about the video of the plans."""
    about: dict[str, Any] = {"video_id": UUID(VIDEO_ID)}
    of_user = about | {"user_id": "alice"}
    segment = events.Segment(
        rendition="96p", index=1, path="chunks/a/b/96p/segment_001.ts", duration_seconds=1.0, bytes=4
    )
    rendition = events.Rendition(
        name="96p",
        width=256,
        height=96,
        bandwidth=250_000,
        average_bandwidth=200_000,
        codecs="avc1.64000b,mp4a.40.2",
        frame_rate=25.0,
    )
    payloads: list[events.Payload] = [
        events.VideoUploaded(
            **of_user,
            source=events.Source(uri=SOURCE_URI),
            filename="clip.mp4",
            visibility="private",
            delivery="signed",
            storage="default",
        ),
        events.VideoSegmented(**of_user, chunk=0, chunks=3, segments=[segment]),
        events.VideoStored(
            **of_user,
            storage_type="local",
            s3_bucket=None,
            s3_key=f"hls/alice/{VIDEO_ID}",
            s3_public_url=None,
            playlist_url="http://localhost/master.m3u8",
            thumbnail_url="http://localhost/thumbnail.jpg",
            duration_seconds=4.2,
            renditions=[rendition],
            bytes=4,
            warnings=(
                VideoWarning(code="source_gap", message="x", start_seconds=1.0, end_seconds=2.0),
                VideoWarning(code="note", message="y"),
            ),
        ),
        events.VideoFailed(**of_user, stage="encode", reason="encode_failed", message="x", retryable=True),
        events.ResumeVideo(**about),
        events.EncodeChunk(**about, chunk=0),
        events.StoreSegments(**about, chunk=1),
        events.DeleteVideo(**about),
    ]
    return {payload.type: cloudevents.envelope(payload, source="/recorded") for payload in payloads}


def plan() -> dict[str, Any]:
    """Return the plan of the clip, with the values for players."""
    with TemporaryDirectory() as folder:
        clip = make_clip(Path(folder, "clip.mp4"), CLIP)
        made = asyncio.run(make_plan(clip, DEFAULT_PRESETS, segment_seconds=1, chunk_seconds=2))
    assert made.audio
    steps = (made.video.first_pts, 1 / (made.rate * made.video.time_base))
    video = replace(made.video, time_map=replace(IDENTITY, steps=steps))
    audio = replace(
        made.audio,
        time_map=replace(IDENTITY, steps=(0, Fraction(1))),
        parts=(ChannelTrack(made.audio.index, "FC"),),
    )
    made = replace(made, video=video, audio=audio)
    return {"plan": made.to_json(), "presentation": made.presentation().to_json()}


def main(name: str) -> None:
    """Write both records."""
    for kind, value in (("plans", plan()), ("messages", messages())):
        (HERE / kind / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
