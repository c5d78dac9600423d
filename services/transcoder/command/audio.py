"""The audio part of a chunk's command line.

All chunks share one grid: AAC frame j starts j * 1024 samples (48 kHz) after output zero, and a chunk owns
the frames that start within it. Each chunk starts encoding a few frames early and ends late, so that both
encoders at a join have processed the same input, and drops the frames it does not own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING, Final

from services.transcoder.command.timestamps import moved_to
from services.transcoder.ffmpeg.input import source_input
from services.transcoder.media import round_half_up
from services.transcoder.plan.model import RestOfChunk
from services.transcoder.plan.timeline import AUDIO_FRAME, AUDIO_RATE, first_audio_frame

if TYPE_CHECKING:
    from services.transcoder.media import AudioAnchor, AudioGrid, AudioTrack
    from services.transcoder.plan.model import Chunk, Plan

RUN_IN_FRAMES: Final = 8
RUN_OUT_FRAMES: Final = 2
RESAMPLER_RUN_IN: Final = 4800  # samples at 48 kHz
HOLE_SECONDS: Final = 0.01  # on a regular grid every difference is a gap
ANCHOR_TOLERANCE: Final = 120  # samples; frames are at least 128 long
JITTER_SECONDS: Final = 0.05  # otherwise smaller differences are jitter, not silence
FILE_HOLE_SECONDS: Final = 0.0005  # within one format times are exact, but they may jump where it changes
# Mono goes to both sides at full level: the following stereo mix attenuates a centre channel by 3 dB.
MONO_GAIN: Final = "volume='if(eq(nb_channels,1),sqrt(2),1)':precision=float"
# Where the sample rate changes, FFmpeg 5.1 labels one frame with the old rate but computes its time with the
# new one, and would insert seconds of silence before it. The distance is measured from the end of the
# previous frame, because frames may be long.
NO_LEAP: Final = "aselect='st(1,isnan(prev_t)+lt(t-ld(0),0.5));st(0,t+samples_n/sample_rate);ld(1)'"
EVERY_ERROR: Final = ("-max_error_rate", "1")  # otherwise FFmpeg fails if most packets are damaged
STEREO_FLOAT_BYTES: Final = 8  # per sample: two channels in single precision
# In floating point, centre and surrounds are added at -3 dB (ITU-R BS.775) and nothing is scaled down; with
# integers swresample would make a 5.1 mix 7.7 dB quieter.
STEREO: Final = "aformat=sample_fmts=fltp:channel_layouts=stereo"


@dataclass(frozen=True, slots=True)
class _Span:
    """The AAC frames of a chunk: those it owns, and the samples (48 kHz) that are encoded for them."""

    first_frame: int
    end_frame: int

    @property
    def first_sample(self) -> int:
        return (self.first_frame - RUN_IN_FRAMES) * AUDIO_FRAME

    @property
    def end_sample(self) -> int:
        return (self.end_frame + RUN_OUT_FRAMES) * AUDIO_FRAME


def audio_frames(plan: Plan, chunk: Chunk) -> range:
    """Return the numbers of the AAC frames that `chunk` owns."""
    if isinstance(chunk, RestOfChunk):
        first = chunk.audio_from
    else:
        first = first_audio_frame(chunk.first_frame, plan.rate)
    return range(first, first_audio_frame(chunk.end_frame, plan.rate))


def _span(plan: Plan, chunk: Chunk) -> _Span:
    frames = audio_frames(plan, chunk)
    return _Span(frames.start, frames.stop)


def is_silent(plan: Plan, chunk: Chunk) -> bool:
    """Return whether the source has no audio in the chunk."""
    if plan.audio is None:
        return True
    span, zero = _span(plan, chunk), plan.zero_seconds
    begins = zero + Fraction(span.first_sample, AUDIO_RATE)
    ends = zero + Fraction(span.end_sample, AUDIO_RATE)
    return plan.audio.end_seconds <= begins or plan.audio.start_seconds >= ends


def audio_argv(plan: Plan, chunk: Chunk, source_path: str, outdir: str) -> list[str]:
    """Return the command that decodes the audio around a chunk to a file with a constant format.

    Audio that changes channels or sample rate within the stream (as in broadcasts) breaks sample counting, so
    it is converted first. FFmpeg rebuilds the filters at each change, so the mix fits the new format.
    """
    assert plan.audio is not None  # noqa: S101 - called only for videos with audio
    begin, end = (float(seconds) for seconds in _converted(plan, chunk))
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning", "-y"),
        *("-progress", "pipe:1", "-copyts", *EVERY_ERROR, "-vn"),
        *source_input(source_path, chunk.audio_seek_seconds, plan.probe_bytes),
        *("-filter_complex", f"{sound_of(plan.audio, 0)}{to_stereo(plan.audio)},atrim=start={begin:.6f}[a]"),
        *("-map", "[a]", "-to", f"{end:.6f}"),
        *("-c:a", "pcm_f32le", "-f", "nut", audio_path(outdir)),
    ]


def _converted(plan: Plan, chunk: Chunk) -> tuple[Fraction, Fraction]:
    """Return the range (plan times) of sound converted for a chunk, with a margin of one second."""
    span = _span(plan, chunk)
    begin = Fraction(span.first_sample - RESAMPLER_RUN_IN, AUDIO_RATE)
    end = Fraction(span.end_sample, AUDIO_RATE)
    return plan.zero_seconds + begin - 1, plan.zero_seconds + end + 1


def converted_bytes(plan: Plan, chunk: Chunk) -> int:
    """Return the size of the file that `audio_argv` writes, without its headers."""
    if is_silent(plan, chunk):
        return 0
    begin, end = _converted(plan, chunk)
    return int((end - begin) * AUDIO_RATE) * STEREO_FLOAT_BYTES


def sound_of(audio: AudioTrack, number: int) -> str:
    """Return the beginning of a graph: the sound of input `number`, joined where it has several tracks."""
    if len(audio.parts) < 2:
        return f"[{number}:{audio.index}]"
    pads = "".join(f"[{number}:{part.index}]" for part in audio.parts)
    channels = "|".join(f"{place}.0-{part.channel}" for place, part in enumerate(audio.parts))
    layout = "stereo" if len(audio.parts) == 2 else "5.1"
    return f"{pads}join=inputs={len(audio.parts)}:channel_layout={layout}:map={channels},"


def to_stereo(audio: AudioTrack) -> str:
    """Return the filters that convert sound to one format by timestamps, whatever its formats are."""
    rate = [f"aformat=sample_rates={audio.sample_rate}"] if audio.time_map else []
    resampled = f"aresample={AUDIO_RATE}:async=1"
    return ",".join([*rate, *_on_one_clock(audio), NO_LEAP, MONO_GAIN, resampled, STEREO])


def _on_one_clock(audio: AudioTrack) -> list[str]:
    """Return the filter that makes the audio clock continuous, if necessary."""
    return [moved_to("asetpts", audio.time_map, 0)] if audio.time_map else []


def audio_path(outdir: str) -> str:
    """Return the path of converted audio while its chunk is encoded."""
    return f"{outdir}/sound.nut"


def audio_graph(plan: Plan, chunk: Chunk, *, from_file: bool = False) -> str:
    """Return the graph from the second input to one labelled output per bit rate: [a0], [a1], … `from_file`.

    The input was written by `audio_argv`.
    """
    assert plan.audio is not None  # noqa: S101 - called only for videos with audio
    span = _span(plan, chunk)
    written = replace(plan.audio, index=0, sample_rate=AUDIO_RATE, lattice=None, time_map=None, parts=())
    audio = written if from_file else plan.audio
    steps = _silence(span) if is_silent(plan, chunk) else _sound(plan, chunk, audio, from_file=from_file)
    count = len(audio_bit_rates(plan))
    outputs = "".join(f"[a{number}]" for number in range(count))
    split = f",asplit={count}" if count > 1 else ""
    begins = "[1:0]" if is_silent(plan, chunk) else sound_of(audio, 1)
    return begins + ",".join(steps) + split + outputs


def _silence(span: _Span) -> list[str]:
    return [f"asetpts=N+{span.first_sample}", f"atrim=end_pts={span.end_sample}"]


def _sound(plan: Plan, chunk: Chunk, audio: AudioTrack, *, from_file: bool) -> list[str]:
    """Return filters that produce the span's samples, identical for neighbouring chunks.

    Input samples are counted from output zero. Reading starts at a sample where the resampler's phase is
    zero, so that the phase is the same in every chunk; from there on samples are counted, not timed.
    """
    span, zero = _span(plan, chunk), round_half_up(plan.zero_seconds * audio.sample_rate)
    common = gcd(audio.sample_rate, AUDIO_RATE)
    block = (span.first_sample - RESAMPLER_RUN_IN) // (AUDIO_RATE // common)
    begin_in, begin_out = block * (audio.sample_rate // common), block * (AUDIO_RATE // common)
    anchor = None if from_file else chunk.audio_anchor
    hole = HOLE_SECONDS if audio.lattice or anchor else JITTER_SECONDS
    hole = FILE_HOLE_SECONDS if from_file else hole
    ends = round_half_up((audio.end_seconds - plan.zero_seconds) * AUDIO_RATE)
    return [
        f"aformat=sample_rates={audio.sample_rate}",  # the format may change here
        *_on_one_clock(audio),
        *(_counter(anchor, zero) if anchor else [_clock(audio.lattice, zero)]),
        f"atrim=start_pts={begin_in}",
        MONO_GAIN,
        f"aresample={AUDIO_RATE}:async=1:min_hard_comp={hole}:first_pts={begin_in}",
        STEREO,
        f"asetpts=N+{begin_out}",
        *(["apad"] if from_file or span.end_sample > ends - AUDIO_FRAME else []),
        f"atrim=start_pts={span.first_sample}:end_pts={span.end_sample}",
    ]


def _clock(lattice: AudioGrid | None, zero: int) -> str:
    """Return the filter that makes timestamps start at output zero and corrects rounded ones."""
    if lattice is None:
        return f"asetpts=PTS-{zero}"
    place = f"{lattice.origin}+{lattice.step}*round((PTS-{lattice.origin})/{lattice.step})"
    return f"asetpts='st(0,{place});if(lt(abs(PTS-ld(0)),{lattice.tolerance}),ld(0),PTS)-{zero}'"


def _counter(anchor: AudioAnchor, zero: int) -> list[str]:
    """Return filters that count samples from a known frame found by seeking."""
    near = f"lt(abs(STARTPTS-{anchor.timed}),{ANCHOR_TOLERANCE})"
    return [
        f"aselect='gt(pts,{anchor.after})'",
        f"asetpts='if({near},N+{anchor.counted},PTS)-{zero}'",
    ]


def audio_bit_rates(plan: Plan) -> tuple[int, ...]:
    """Return the distinct audio bit rates; renditions may share one."""
    return tuple(dict.fromkeys(rung.audio_bps for rung in plan.rungs)) if plan.audio else ()


def audio_options(plan: Plan, chunk: Chunk) -> list[str]:
    """Return the audio encoder options, with the filter that drops run-in and run-out.

    The filter counts in samples, the encoder's time base, whatever the version of FFmpeg: up to 6.1 packets
    are brought to the time base of the muxer first, and the tee muxer has none of its own.
    """
    span = _span(plan, chunk)
    first, end = span.first_frame * AUDIO_FRAME, span.end_frame * AUDIO_FRAME
    rates = [
        word for number, rate in enumerate(audio_bit_rates(plan)) for word in (f"-b:a:{number}", str(rate))
    ]
    return [
        *("-c:a", "aac", *rates, "-ar", str(AUDIO_RATE), "-ac", "2"),
        *("-bsf:a", f"noise=drop='lt(pts,{first})+gte(pts,{end})'"),
    ]
