"""Planning videos, encoding chunks and refusing events, on Postgres in memory and without FFmpeg."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from services.transcoder.encode.encoded_chunk import EncodedChunk
from services.transcoder.encode.verify import SegmentFile
from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.handlers.plan_video import PlanVideoHandler
from services.transcoder.handlers.refuse_event import refuse_event
from services.transcoder.sources.fetch import Sources
from services.transcoder.sources.range_reader import Opened
from shared import videos
from shared.contracts.cloudevents import InvalidData, decode
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import (
    CorruptSource,
    Deferred,
    EncodeFailed,
    OriginalMissing,
    PrivateNotPossible,
    SourceServerUnavailable,
    SourceUnavailable,
    Superseded,
    UnknownQuality,
)
from shared.videos import presets
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.volume import VolumeWorkspace
from tests.sample_video import CODECS, KEY_FRAMES, LEASE_SECONDS, SEGMENT
from tests.unit.transcoder_values import plan
from tests.uploader_handlers import storage_rules


def sources_of(work_dir, **openers):
    return Sources(work_dir, DiskBudget(work_dir.root, 0), openers, max_bytes=1000)


class Planner:
    """Makes the sample plan, draws a thumbnail, and records its calls."""

    def __init__(self, *, error=None, thumbnail_error=None, before=None):
        self.error, self.thumbnail_error, self.before, self.asked = error, thumbnail_error, before, []

    async def make_plan(self, path, ladder, requested, *, kept):
        self.asked.append((path, tuple(preset.name for preset in ladder), tuple(requested), kept))
        if self.before:
            await self.before()
        if self.error:
            raise self.error
        return plan()

    async def draw(self, _plan, _source, target):
        if self.thumbnail_error:
            raise self.thumbnail_error
        target.write_bytes(b"jpeg")


@pytest.fixture
def planning(outbox, work_dir):
    def make(planner=None, *, openers=None, **options):
        planner = planner or Planner()
        return PlanVideoHandler(
            outbox,
            VolumeWorkspace(work_dir),
            sources_of(work_dir, **openers or {}),
            DiskBudget(work_dir.root, 0),
            planner.make_plan,
            planner.draw,
            LEASE_SECONDS,
            **{"rules": storage_rules()} | options,
        )

    return make


class EncoderOf:
    """Writes the segments of one video's chunk, and returns a given result."""

    def __init__(self, video, *, error=None, before=None, **encoded):
        self.video, self.error, self.before, self.encoded, self.progress = video, error, before, encoded, 0.5
        self.parts = []

    async def __call__(self, part, chunk, source, directory, *, on_progress, growth):
        self.parts.append((part, source))
        on_progress(self.progress)
        if self.before:
            await self.before()
        if self.error:
            raise self.error
        segments = self.video.segments(chunk)
        files = []
        for each in segments:
            path = directory / each.rendition / each.path.rsplit("/", 1)[1]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(SEGMENT)
            values = {"rendition": each.rendition, "index": each.index, "path": path, "bytes": each.bytes}
            values |= {"duration_seconds": each.duration_seconds, "key_frames": tuple(KEY_FRAMES)}
            files.append(SegmentFile(**values))
        codecs = {each.rendition: CODECS for each in segments}
        return EncodedChunk(tuple(files), codecs, "libx264", **self.encoded)


@pytest.fixture
def encoding(outbox, work_dir):
    def make(encoder, *, lease_seconds=LEASE_SECONDS):
        room = DiskBudget(work_dir.root, 0)
        return EncodeChunkHandler(
            outbox,
            VolumeWorkspace(work_dir),
            sources_of(work_dir),
            room,
            encoder,
            lease_seconds,
            outage_seconds=0.0,
        )

    return make


# Planning


async def test_event_of_a_platform_makes_a_record_with_the_current_ladder(planning, new_video, postgres):
    video = new_video()
    await planning(rules=storage_rules(default_visibility="private")).accept(video.uploaded)
    record = await video.record()
    assert (record.status, record.user_id, record.visibility) == ("processing", "alice", "private")
    assert [rung["name"] for rung in postgres.rows("videos")[0]["ladder"]] == [
        "1080p",
        "720p",
        "480p",
        "360p",
    ]


async def test_repeated_event_creates_nothing_new(planning, new_video):
    video = new_video()
    await planning().accept(video.uploaded)
    before = await video.record()
    await planning().accept(video.uploaded)
    assert await video.record() == before


async def test_event_with_the_id_of_anothers_video_is_superseded(planning, new_video):
    video = await new_video().accepted()
    stolen = video.uploaded.model_copy(update={"user_id": "mallory"})
    with pytest.raises(Superseded, match="the id belongs to another video of alice"):
        await planning().accept(stolen)


async def test_video_is_planned_and_its_chunks_announced(planning, new_video, postgres, work_dir):
    video = await new_video().accepted()
    planner = Planner()
    await planning(planner).uploaded(video.uploaded)
    assert planner.asked == [(work_dir.original(video.video_id), ("1080p", "720p", "480p", "360p"), (), None)]
    record = await video.record()
    assert (record.is_planned, record.stage, record.width, record.height) == (True, "encode", 1280, 720)
    assert (work_dir.root / record.thumbnail_path).read_bytes() == b"jpeg"
    assert await video.chunk_statuses() == ["pending"] * 3
    assert [(key, data["chunk"]) for key, data in postgres.sent] == [
        ("chunk.encode.first", 0), ("chunk.encode.bulk", 1), ("chunk.encode.bulk", 2),
    ]  # fmt: skip
    with pytest.raises(Superseded, match="already planned"):
        await planning().uploaded(video.uploaded)


async def test_qualities_of_the_video_come_before_those_of_its_user(planning, new_video, outbox):
    async with outbox.transaction() as connection:
        await presets.set_preferences(connection, "alice", ["360p"])
    planner, usual, special = Planner(), new_video(), new_video(given={"qualities": ["720p"]})
    for video in (await usual.accepted(), await special.accepted()):
        await planning(planner).uploaded(video.uploaded)
    assert [requested for _, _, requested, _ in planner.asked] == [("360p",), ("720p",)]


async def test_unavailable_quality_is_a_warning(planning, new_video):
    video = await new_video(given={"qualities": ["1080p", "720p"]}).accepted()
    await planning().uploaded(video.uploaded)
    assert [warning.code for warning in (await video.record()).warnings] == [WarningCode.QUALITY_UNAVAILABLE]


async def test_unknown_quality_fails_before_the_file_is_read(planning, new_video):
    planner, video = Planner(), await new_video(given={"qualities": ["8k"]}).accepted()
    with pytest.raises(UnknownQuality, match="no preset is named 8k"):
        await planning(planner).uploaded(video.uploaded)
    assert planner.asked == []


async def test_private_video_is_not_planned_for_a_public_bucket(planning, new_video):
    video = await new_video(given={"visibility": "private"}).accepted()
    with pytest.raises(PrivateNotPossible):
        await planning(rules=storage_rules(is_public=True)).uploaded(video.uploaded)


async def test_claim_is_released_when_the_planning_fails(planning, new_video, postgres):
    video = await new_video().accepted()
    with pytest.raises(CorruptSource):
        await planning(Planner(error=CorruptSource("cut"))).uploaded(video.uploaded)
    [row] = postgres.rows("videos")
    assert (row["plan_lease_until"], row["plan_tries"], row["plan_attempt"]) == (None, 0, 1)


async def test_failure_of_a_late_planner_does_not_fail_the_video(planning, new_video, postgres, outbox):
    video = await new_video().accepted()

    async def lose():
        postgres.pass_time(LEASE_SECONDS + 1)
        async with outbox.transaction() as connection:
            await videos.claim_plan(connection, video.video_id, lease_seconds=LEASE_SECONDS)

    with pytest.raises(Superseded, match="attempt 1 at the planning is over: the half of a file"):
        await planning(Planner(error=CorruptSource("the half of a file"), before=lose)).uploaded(
            video.uploaded
        )


async def test_late_plan_is_not_saved(planning, new_video, outbox, postgres):
    video = await new_video().accepted()

    async def delete():
        async with outbox.transaction() as connection:
            await videos.delete(connection, video.video_id)

    with pytest.raises(Superseded):
        await planning(Planner(before=delete)).uploaded(video.uploaded)
    assert postgres.rows("chunks") == []
    assert postgres.sent == []


async def test_second_planner_waits_for_the_first(planning, new_video, outbox):
    video = await new_video().accepted()
    async with outbox.transaction() as connection:
        await videos.claim_plan(connection, video.video_id, lease_seconds=LEASE_SECONDS)
    with pytest.raises(Deferred, match="another worker is planning"):
        await planning().uploaded(video.uploaded)


async def test_video_without_a_thumbnail_has_a_warning(planning, new_video):
    video = await new_video().accepted()
    await planning(Planner(thumbnail_error=CorruptSource("no picture"))).uploaded(video.uploaded)
    assert [warning.code for warning in (await video.record()).warnings] == [WarningCode.THUMBNAIL_MISSING]


async def test_source_is_fetched_once_and_a_silent_server_is_a_warning_meanwhile(
    planning, new_video, work_dir
):
    class Server:
        answers = False

        def __call__(self, _uri):
            return self

        async def __aenter__(self):
            if not self.answers:
                raise SourceServerUnavailable("connection refused")
            return Opened(self._blocks(), 4)

        async def _blocks(self):
            yield b"film"

        async def __aexit__(self, *_):
            pass

    server = Server()
    video = await new_video(source_uri="https://cms.example.org/a.mp4").accepted()
    work_dir.original(video.video_id).unlink()
    for _ in range(2):
        with pytest.raises(SourceServerUnavailable):
            await planning(openers={"https": server}).uploaded(video.uploaded)
    [warning] = (await video.record()).warnings
    assert (warning.code, warning.message) == ("source_waiting", "Waiting for its server: connection refused")
    server.answers = True
    await planning(openers={"https": server}).uploaded(video.uploaded)
    assert work_dir.original(video.video_id).read_bytes() == b"film"
    assert (await video.record()).warnings == ()


# Resuming


async def test_resumed_video_that_was_not_planned_is_planned(planning, new_video):
    video = await new_video().accepted()
    await planning().resume(video.resume)
    assert (await video.record()).is_planned


async def test_resumed_video_has_its_unfinished_work_announced_again(planning, new_video, postgres):
    video = await new_video().encoded(1)
    await planning().resume(video.resume)
    assert [(key, data["chunk"]) for key, data in postgres.sent] == [
        ("chunk.encode.first", 0), ("video.segmented", 1), ("chunk.encode.bulk", 2),
    ]  # fmt: skip
    assert [each["index"] for each in postgres.sent[1][1]["segments"]] == [2, 2, 3, 3]


async def test_resumed_video_whose_chunks_are_stored_has_the_last_announced_to_finish_it(
    planning, new_video, postgres
):
    video = await new_video().stored()
    await planning().resume(video.resume)
    assert [(key, data["chunk"]) for key, data in postgres.sent] == [("video.segmented", 2)]


@pytest.mark.parametrize("error", [None, CorruptSource("no picture")])
async def test_lost_thumbnail_is_drawn_again_where_that_is_possible(planning, new_video, work_dir, error):
    video = await new_video().planned()
    path = work_dir.root / (await video.record()).thumbnail_path
    path.unlink()
    await planning(Planner(thumbnail_error=error)).resume(video.resume)
    assert path.exists() == (error is None)


async def test_thumbnail_is_not_drawn_from_another_file(planning, new_video, work_dir):
    video = await new_video(plan=replace(plan(), source_bytes=99).to_json()).planned()
    path = work_dir.root / (await video.record()).thumbnail_path
    path.unlink()
    await planning().resume(video.resume)
    assert not path.exists()


async def test_finished_video_is_not_resumed(planning, new_video):
    video = await new_video().ready()
    with pytest.raises(Superseded, match="the video is ready"):
        await planning().resume(video.resume)
    with pytest.raises(Superseded, match="the video is unknown"):
        await planning().resume(new_video().resume)


# Corrected events


async def test_corrected_event_restarts_a_failed_video(planning, new_video, postgres, work_dir):
    video = await new_video().failed(CorruptSource("cut"))
    video.source_uri = "https://cms.example.org/better.mp4"
    await planning().accept(video.uploaded)
    record = await video.record()
    assert (record.status, record.run, record.error, record.source_uri) == (
        "processing",
        2,
        None,
        video.source_uri,
    )
    assert not work_dir.original_dir(video.video_id).exists(), "the new run fetches its own"


async def test_uploaded_video_can_be_retried_only_by_its_owner(planning, new_video, work_dir):
    video = new_video()
    video.source_uri = work_dir.original(video.video_id).as_uri()
    await video.failed(CorruptSource("cut"))
    corrected = video.uploaded.model_copy(update={"qualities": ["360p"]})
    with pytest.raises(Superseded, match="the video is failed"):
        await planning().accept(corrected)


async def test_stored_objects_are_deleted_before_a_corrected_event_restarts(planning, new_video, postgres):
    video = await new_video(source_uri="https://cms.example.org/a.mp4").stored(0)
    await video.fail(EncodeFailed("broken"))
    video.source_uri = "https://cms.example.org/better.mp4"
    with pytest.raises(Deferred, match="still being removed"):
        await planning().accept(video.uploaded)
    assert (await video.record()).status == "deleted"
    assert ("video.delete", {"videoId": str(video.video_id)}) in postgres.sent
    with pytest.raises(Deferred):
        await planning().accept(video.uploaded)
    async with video.outbox.transaction() as connection:
        await videos.purge(connection, video.video_id)
    await planning().accept(video.uploaded)
    assert (await video.record()).status == "processing"


# Encoding


async def test_encoded_chunk_is_recorded_and_announced(encoding, new_video, postgres, work_dir):
    video = await new_video().planned()
    encoder = EncoderOf(video)
    await encoding(encoder).encode(video.encode(1))
    assert await video.chunk_statuses() == ["pending", "encoded", "pending"]
    [(part, source)] = encoder.parts
    assert ([chunk.index for chunk in part.chunks], part.segment_starts) == ([0, 1], (300, 599))
    assert source == work_dir.original(video.video_id)
    [(key, event)] = postgres.sent
    assert (key, event["chunk"], event["chunks"]) == ("video.segmented", 1, 3)
    assert [(each["rendition"], each["index"], each["bytes"]) for each in event["segments"]] == [
        ("360p", 2, 188), ("720p", 2, 188), ("360p", 3, 188), ("720p", 3, 188),
    ]  # fmt: skip
    assert all((work_dir.root / each["path"]).is_file() for each in event["segments"])
    with pytest.raises(Superseded, match="the chunk is encoded, the video processing"):
        await encoding(encoder).encode(video.encode(1))


async def test_chunk_that_another_encodes_is_deferred_until_its_lease_ends(encoding, new_video):
    video = await new_video().planned()
    await video.claimed(0)
    with pytest.raises(Deferred, match="another worker is encoding this chunk") as deferred:
        await encoding(EncoderOf(video)).encode(video.encode(0))
    assert deferred.value.seconds == LEASE_SECONDS + 1


async def test_failed_attempt_leaves_no_files_and_releases_its_claim(encoding, new_video, postgres, work_dir):
    video = await new_video().planned()
    with pytest.raises(EncodeFailed):
        await encoding(EncoderOf(video, error=EncodeFailed("broken"))).encode(video.encode(0))
    [row] = postgres.rows("chunks", chunk=0)
    assert (row["status"], row["attempt"], row["tries"], row["lease_until"]) == ("pending", 1, 0, None)
    assert not (work_dir.root / video.directory(0)).exists()


async def test_late_encode_is_neither_recorded_nor_kept(encoding, new_video, postgres, work_dir):
    video = await new_video().planned()

    async def lose():
        postgres.pass_time(LEASE_SECONDS + 1)
        await video.claimed(0)

    with pytest.raises(Superseded, match="attempt 1 at chunk 0"):
        await encoding(EncoderOf(video, before=lose)).encode(video.encode(0))
    [row] = postgres.rows("chunks", chunk=0)
    assert (row["status"], row["attempt"]) == ("encoding", 2)
    assert postgres.sent == []
    assert not (work_dir.root / video.directory(0)).exists()


async def test_encode_is_kept_while_postgres_is_unavailable(encoding, new_video, postgres):
    video = await new_video().planned()
    postgres.fail("videos.finish_chunk", ConnectionResetError("gone"), TimeoutError())
    encoder = EncoderOf(video)
    await encoding(encoder).encode(video.encode(0))
    assert (await video.chunk_statuses())[0] == "encoded"
    assert len(encoder.parts) == 1


async def test_lost_answer_to_a_commit_does_not_count_as_a_lost_claim(encoding, new_video, postgres):
    video = await new_video().planned()
    postgres.unconfirmed = "videos.finish_chunk"
    await encoding(EncoderOf(video)).encode(video.encode(0))
    assert postgres.calls["videos.finish_chunk"] == 2
    assert (await video.chunk_statuses())[0] == "encoded"


async def test_chunk_is_not_encoded_without_its_original(encoding, new_video, work_dir):
    video = await new_video().planned()
    work_dir.original(video.video_id).unlink()
    with pytest.raises(OriginalMissing, match="no longer exists"):
        await encoding(EncoderOf(video)).encode(video.encode(0))


async def test_chunk_is_not_encoded_from_a_file_other_than_the_planned_one(encoding, new_video):
    video = await new_video(plan=replace(plan(), source_bytes=5).to_json()).planned()
    with pytest.raises(SourceUnavailable, match="has 4 bytes, but had 5 when the video was planned"):
        await encoding(EncoderOf(video)).encode(video.encode(0))


async def test_outdated_plan_is_dropped_and_made_again(encoding, planning, new_video, postgres, work_dir):
    video = await new_video(plan=plan().to_json() | {"version": 0}).encoded(1)
    with pytest.raises(Superseded, match="the video is being planned again"):
        await encoding(EncoderOf(video)).encode(video.encode(0))
    assert [key for key, _ in postgres.sent] == ["video.resume"]
    assert postgres.rows("chunks") == postgres.rows("segments") == []
    assert not (work_dir.root / video.directory(1)).exists()
    planner = Planner()
    await planning(planner).resume(video.resume)
    assert [rung.name for rung in planner.asked[0][3].rungs] == ["720p", "360p"]
    assert [row["attempt"] for row in postgres.rows("chunks")] == [1, 1, 1], "earlier workers stay fenced"


async def test_outdated_plan_stays_while_a_worker_uses_it(encoding, new_video):
    video = await new_video(plan=plan().to_json() | {"version": 0}).planned()
    await video.claimed(1)
    with pytest.raises(Deferred, match="still holds a chunk of the outdated plan"):
        await encoding(EncoderOf(video)).encode(video.encode(0))


DIFFERS = VideoWarning(code=WarningCode.AUDIO_DIFFERS, message="the sound differs", start_seconds=1.0)


@pytest.mark.parametrize(
    ("encoded", "codes"),
    [
        ({}, []),
        ({"notes": ("the GPU failed",)}, ["encoded_on_cpu"]),
        ({"is_repaired": True}, ["source_damaged"]),
        ({"is_repaired": True, "is_checked": True}, ["slower_decoding"]),
        ({"is_repaired": True, "is_checked": True, "differences": (DIFFERS,)}, ["audio_differs"]),
        ({"notes": ("the GPU failed",), "differences": (DIFFERS,)}, ["encoded_on_cpu", "audio_differs"]),
    ],
)
async def test_record_says_how_a_chunk_was_encoded(encoding, new_video, encoded, codes):
    video = await new_video().planned()
    await encoding(EncoderOf(video, **encoded)).encode(video.encode(1))
    warnings = (await video.record()).warnings
    assert sorted(warning.code for warning in warnings) == sorted(codes)
    for warning in warnings:
        if warning.code != "audio_differs":
            assert (warning.start_seconds, warning.end_seconds) == (10.01, 29.997)


async def test_progress_is_stored_with_each_renewal(encoding, new_video):
    video = await new_video().planned()

    async def renewed():
        async with asyncio.timeout(10):
            while (progress := (await video.record()).progress) == 0:
                await asyncio.sleep(0)
        assert progress == pytest.approx(0.95 * 0.5 * 10.01 / 40.04, abs=1e-4)

    encoder = EncoderOf(video, before=renewed)
    await encoding(encoder, lease_seconds=0.001).encode(video.encode(0))
    assert (await video.chunk_statuses())[0] == "encoded"


# Events that cannot be understood


def invalid(**data):
    event = {"specversion": "1.0", "id": "1", "source": "/cms", "type": "video.uploaded", "data": data}
    with pytest.raises(InvalidData) as raised:
        decode(json.dumps(event).encode())
    return raised.value


async def test_refused_event_is_announced_as_failed(outbox, new_video, postgres):
    video = new_video()
    await refuse_event(outbox, invalid(videoId=str(video.video_id), userId="a/b"))
    [(key, event)] = postgres.sent
    assert (key, event["userId"], event["reason"], event["retryable"]) == (
        "video.failed", "a/b", "invalid_event", False,
    )  # fmt: skip
    assert "userId" in event["message"]


async def test_refused_event_does_not_affect_an_accepted_video(outbox, new_video, postgres):
    video = await new_video().accepted()
    await refuse_event(outbox, invalid(videoId=str(video.video_id), userId=7))
    assert postgres.sent == []


async def test_refused_event_without_a_video_is_not_announced(outbox, postgres):
    await refuse_event(outbox, invalid(videoId="x"))
    assert postgres.sent == []
