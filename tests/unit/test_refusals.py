"""Messages for rejected sources: plain words, and no retry if none can help."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcoder.encode.final_error import final_error
from services.transcoder.ffmpeg.input import Limits
from services.transcoder.ffmpeg.runner import Finished, require_success
from services.transcoder.probe.rejections import check_streams, unreadable
from services.transcoder.probe.track_choice import Candidates, choose_tracks
from shared import errors
from shared.errors import EncodeFailed, SourceError
from shared.messaging.retry_policy import RetryPolicy
from shared.messaging.verdicts import Delivery, GiveUp, decide
from tests.plain_words import NOW, WORDS, assert_plain
from tests.unit.transcoder_values import plan

ROOT = Path(__file__).parents[2]
LOG = st.lists(
    st.sampled_from(
        [
            *("[h264 @ 0x55d0] decode_slice_header error", "[mov,mp4 @ 0x1] moov atom not found"),
            *("Could not open codec for input stream 1", "Invalid data found when processing input"),
            *("[vvc @ 0x5] Codec (vvc) not on whitelist 'h264,hevc'", "    Last message repeated 3 times"),
            *("[image2 @ 0x5] Format not on whitelist 'mov'", "[hls @ 0x5] Format not on whitelist 'mov'"),
            *("[aac @ 0x7] Audio object type 42 is not implemented", "Error while decoding stream #0:0"),
            *(
                "Picture size 20000x20000 exceeds specified max pixel count 99",
                "1 frames were written instead of 2",
            ),
            *("[mov @ 0x2] stream 0 is encrypted", "segment_001.ts was not written", "Conversion failed!"),
        ]
    )
).map("\n".join)
HEADS = st.sampled_from(
    [b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3", b"RIFF....AVI ", b"<html>", bytes(64), b"GIF89a"]
)
STREAMS = st.lists(
    st.fixed_dictionaries(
        {
            "codec_type": st.sampled_from(["video", "audio", "subtitle", "attachment", "data"]),
            "codec_name": st.sampled_from(["h264", "vvc", "aac", "tta", "bmp", "none", "ttf"]),
            "codec_tag_string": st.sampled_from(["avc1", "encv", "apac", "[0][0][0][0]"]),
            "disposition": st.fixed_dictionaries({"attached_pic": st.integers(0, 1)}),
            "sample_rate": st.sampled_from(["0", "48000"]),
            "width": st.sampled_from([0, 640]),
        }
    ),
    max_size=80,
)  # fmt: skip
REFUSALS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, SourceError | errors.SourceUnavailable)
]


@given(LOG, HEADS)
def test_file_that_cannot_be_opened_is_refused_in_plain_words(log, head):
    assert_plain(unreadable(log, head), log)


@given(LOG)
def test_chunk_that_no_strategy_converts_is_refused_in_plain_words(log):
    whole = plan()
    assert_plain(final_error(whole, whole.chunks[0], EncodeFailed(log)), log)


@given(STREAMS, st.sampled_from(["mov", "mp3"]), st.integers(0, 100))
def test_streams_that_cannot_become_a_video_are_refused_in_plain_words(streams, container, packets):
    numbered = [{**stream, "index": index} for index, stream in enumerate(streams)]
    try:
        check_streams(numbered, container, [], Limits())
        choose_tracks(Candidates(numbered, dict.fromkeys(range(len(numbered)), packets)))
    except SourceError as error:
        assert_plain(error)


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_refusal_of_a_source_has_a_reason_and_is_not_retried(kind):
    verdict = decide(kind("the file is damaged"), Delivery(), RetryPolicy(3, 2.0), NOW)
    assert isinstance(verdict, GiveUp)
    assert (verdict.retryable, kind.reason not in {"permanent_error", ""}) == (False, True)


def _raised() -> list[tuple[str, ast.Call]]:
    """Return every place where the code makes a refusal, with its call."""
    names = {kind.__name__ for kind in REFUSALS}
    paths = [*ROOT.glob("services/**/*.py"), *ROOT.glob("shared/**/*.py")]
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


@pytest.mark.parametrize(("place", "call"), _raised(), ids=lambda each: each if isinstance(each, str) else "")
def test_refusal_in_the_code_says_what_is_wrong_in_plain_words(place, call):
    assert call.args, f"{place} says nothing"
    texts = [
        node.value
        for node in ast.walk(call)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
    assert not [word for word in WORDS if any(word in text for text in texts)], place
    assert not names & {"stderr", "stdout", "argv", "finished", "last_words"}, f"{place} carries a log"


@given(LOG)
def test_failure_of_ffmpeg_itself_keeps_its_log_for_operators(log):
    """What `final_error` turns into plain words is complete until then."""
    with pytest.raises(EncodeFailed) as failed:
        require_success(Finished(1, log), "chunk 0")
    assert log[-100:] in failed.value.message
