"""The decision log of a plan: the decisions about a source and their reasons, as text for users; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.contracts.source_report import Decision, SourceReport

if TYPE_CHECKING:
    from services.transcoder.media import Source
    from services.transcoder.plan.model import Plan

UNTAGGED = "untagged"


def report_plan(source: Source, plan: Plan, source_bytes: int | None) -> SourceReport:
    """Return the content of the source and every decision behind `plan`."""
    return SourceReport(
        container=source.container,
        bytes=source_bytes,
        declared_seconds=source.declared_seconds,
        duration_seconds=plan.duration_seconds,
        tracks=source.tracks,
        decisions=(
            _frame_rate(plan),
            _timeline(plan),
            _interlacing(plan),
            _colour(plan),
            _audio(plan),
            _chunks(source, plan),
        ),
    )


def _frame_rate(plan: Plan) -> Decision:
    video = plan.video
    return Decision(
        topic="frame_rate",
        decision=f"{float(plan.rate):g} frames a second ({plan.rate})",
        reason="the timestamps are not on a regular grid: the lowest rate that keeps the pictures"
        if video.is_vfr
        else "measured: the timestamps of the pictures are multiples of it",
    )


def _timeline(plan: Plan) -> Decision:
    begins = f"begins at {float(plan.zero_seconds):.3f} s of the file's clock"
    lead = plan.lead_frames / plan.rate
    tail = (plan.total_frames - 1 - plan.last_source_frame) / plan.rate
    held = [
        *([f"the first picture is held for {float(lead):.3f} s of sound before it"] if lead else []),
        *([f"the last picture is held for {float(tail):.3f} s"] if tail > 0 else []),
    ]
    return Decision(
        topic="timeline",
        decision=f"{plan.duration_seconds:.3f} s, {begins}",
        reason="; ".join(held) or "from the first picture to the end of the last",
    )


def _interlacing(plan: Plan) -> Decision:
    return Decision(
        topic="interlacing",
        decision="deinterlaced" if plan.video.interlaced else "only pictures marked as interlaced would be",
        reason="some of the pictures sampled across the video are marked as interlaced"
        if plan.video.interlaced
        else "the pictures sampled across the video are marked as progressive",
    )


def _colour(plan: Plan) -> Decision:
    colour = plan.video.colour
    tags = ", ".join(
        f"{name} {value or UNTAGGED}"
        for name, value in (
            ("range", colour.range),
            ("primaries", colour.primaries),
            ("transfer", colour.transfer),
            ("matrix", colour.matrix),
        )
    )
    if colour.is_hdr:
        return Decision(topic="colour", decision="tone-mapped from HDR to BT.709", reason=tags)
    return Decision(topic="colour", decision="BT.709, converted where the source differs", reason=tags)


def _audio(plan: Plan) -> Decision:
    audio = plan.audio
    if audio is None:
        return Decision(topic="audio", decision="no sound", reason="no audio track is converted")
    return Decision(
        topic="audio",
        decision="stereo AAC at 48 kHz",
        reason=f"from {audio.channels} channels of {audio.codec} at {audio.sample_rate} Hz",
    )


def _chunks(source: Source, plan: Plan) -> Decision:
    longest = max(map(plan.seconds_in, plan.chunks))
    reading = {
        "exact": "each is read from the key frame before it, by the container's index",
        "near": "each is read from the key frame before it, which is found by searching",
        "none": "each is read from the beginning: the container cannot be searched",
    }
    return Decision(
        topic="chunks",
        decision=f"{len(plan.segment_starts)} segments in {len(plan.chunks)} chunks of up to {longest:g} s",
        reason=reading[source.seeking],
    )
