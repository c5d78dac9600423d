"""The video part of a chunk's command line: filter graph and encoder options."""

from __future__ import annotations

from dataclasses import replace
from math import lcm
from typing import TYPE_CHECKING, Final, Literal

from services.transcoder.codecs import h264_x264 as x264
from services.transcoder.codecs.h264_levels import lowest_level
from services.transcoder.codecs.h264_nvenc import NVENC, constant_quality
from services.transcoder.codecs.rate_control import BUFFER_AT_START, BUFFER_AT_WARM_UP, limits
from services.transcoder.command.colour import OUTPUT_TAGS, PIXELS, SAYS_BT709, is_bt709, scale_to_bt709
from services.transcoder.command.deinterlace import deinterlaced, woven
from services.transcoder.command.timestamps import moved_to
from services.transcoder.media import SCALABLE_PIXELS
from services.transcoder.plan.timeline import key_frames

if TYPE_CHECKING:
    from fractions import Fraction

    from services.transcoder.codecs.rate_control import Limits
    from services.transcoder.media import VideoTrack
    from services.transcoder.plan.ladder import Rung
    from services.transcoder.plan.model import Chunk, Plan

EncoderName = Literal["libx264", "h264_nvenc"]

# Its default, bicubic, does not average when scaling down: pictures become jagged, and darker from rung to
# rung. Bilinear scaling does: its result is closer to the CPU scaler's, though a little softer (docs/gpu.md).
CUDA_SCALING: Final = "interp_algo=bilinear"
MICROSECONDS: Final = 1_000_000  # one second in the unit of FFmpeg's options
NO_KEY_FRAMES: Final = "100000"  # no automatic key frames: ours are forced
REORDER_RATE: Final = 5  # below this rate B-frames would delay presentation by seconds
REORDER_FRAMES: Final = 2  # x264's with B-frames as references; NVENC needs one
# Not av1: FFmpeg uses libdav1d, which has no GPU support.
NVDEC_CODECS: Final = frozenset({"h264", "hevc", "vp9", "mpeg2video", "mpeg4", "vc1", "vp8"})
NVDEC_PIXELS: Final = frozenset({"yuv420p", "nv12"})
# The stream does not say how long its pictures last: it ends right after the last one, which is then not
# shown. The added copies last one frame at the rate that FFmpeg assumes, which may be a millisecond.
WITHOUT_DURATIONS: Final = frozenset({"asf", "flv", "mpegts", "mpeg", "avi", "ogg"})
LAST_AGAIN: Final = "tpad=stop=64:stop_mode=clone"
SAME_SHAPE: Final = 0.01  # difference of aspect ratios that needs no bars


def decodes_on_gpu(plan: Plan, chunk: Chunk, encoder: EncoderName, *, tolerant: bool) -> bool:
    """Return whether decoded pictures can stay on the GPU: 8-bit BT.709 that only needs scaling."""
    video = plan.video
    plain = is_bt709(video) and not (video.interlaced or video.orientation or tolerant)
    known = video.codec in NVDEC_CODECS and video.pix_fmt in NVDEC_PIXELS
    return (
        encoder == "h264_nvenc"
        and plain
        and known
        and not _holds(plan, chunk, tolerant=tolerant, from_start=False)
    )


def tolerant_seek(plan: Plan, chunk: Chunk) -> float | None:
    """Return where a tolerant chunk is read from.

    Where the previous one starts, whose last picture may have to be held. The work stays proportional to the
    video's length, whichever part is damaged.
    """
    return plan.chunk(chunk.index - 1).video_seek_seconds if chunk.index else None


def decoder_options(video: VideoTrack) -> list[str]:
    """Return the decoder options of `video`, which precede the input."""
    return [] if video.x264_build is None else ["-x264_build", str(video.x264_build)]


def video_graph(
    plan: Plan,
    chunk: Chunk,
    encoder: EncoderName,
    *,
    tolerant: bool,
    on_gpu: bool,
    seek_seconds: float | None = None,
) -> str:
    """Return the graph from the decoded stream to one labelled output per rung: [v0], [v1], …

    `seek_seconds` is where a tolerant chunk is read from (None: the beginning).
    """
    steps = [*_pick_frames(plan, chunk, tolerant=tolerant, on_gpu=on_gpu, seek_seconds=seek_seconds)]
    top = plan.rungs[0]
    if on_gpu:
        scale = f"scale_cuda={top.width}:{top.height}:format={PIXELS}:{CUDA_SCALING}"
        steps += [scale, "setsar=1", SAYS_BT709]
    else:
        steps += _upright(_named_once(plan) if tolerant else plan, top)
        if encoder == "h264_nvenc":
            steps.append("hwupload_cuda")
    return f"[0:{plan.video.index}]" + ",".join(steps) + _cascade(plan.rungs, encoder)


def _pick_frames(
    plan: Plan, chunk: Chunk, *, tolerant: bool, on_gpu: bool, seek_seconds: float | None
) -> list[str]:
    """Return filters that place pictures on the frame grid and pass exactly a chunk's and its warm-up's.

    After `fps` a timestamp is a frame number, so that rounding cannot matter.
    """
    steps = [moved_to("setpts", plan.video.time_map, plan.video.first_pts, is_complete=not tolerant)]
    if not on_gpu:
        steps += [*woven(plan.video), *one_shape(plan.video), *deinterlaced(plan.video)]
    if plan.container in WITHOUT_DURATIONS and chunk.end_frame > plan.last_source_frame and not on_gpu:
        steps.append(LAST_AGAIN)
    from_start = tolerant and seek_seconds is None
    first = 0 if from_start else _exact_frame(plan, chunk.encoded_from - plan.lead_frames)
    held = f":start_time={float(first / plan.rate):.6f}" if tolerant else ""
    steps.append(f"fps={plan.rate}:round=near:eof_action=pass{held}")
    steps += _holds(plan, chunk, tolerant=tolerant, from_start=from_start)
    if plan.lead_frames and not _holds_first(plan, chunk, from_start=from_start):
        steps.append(f"setpts=PTS+{plan.lead_frames}")
    return [*steps, f"trim=start_pts={chunk.encoded_from}:end_pts={chunk.end_frame}"]


def one_shape(video: VideoTrack) -> list[str]:
    """Return the filters that scale pictures of a different size to the first one's size, with bars.

    Pictures keep their aspect ratio when a phone is turned or a broadcast changes from 4:3 to 16:9. Pictures
    with the first one's size pass unchanged. Fields are scaled separately, and bars keep the field order.
    Heights are multiples of 4, because swscale writes past the end of a field that has an odd number of
    chroma lines.
    """
    if not video.pix_fmt.startswith(SCALABLE_PIXELS):
        return []
    width, height = video.width - video.width % 2, video.height - video.height % 2
    first = float(video.sample_aspect * width / height)
    ratio = f"iw/ih*if(between(sar,0.05,20),sar,1)/{first:.8f}"
    wide = f"if(gt({ratio},{1 - SAME_SHAPE}),{width},2*max(1,trunc({width // 2}*{ratio})))"
    high = f"if(lt({ratio},{1 + SAME_SHAPE}),{height},4*max(1,trunc({height / 4:g}/({ratio}))))"
    apart = -1 if height % 4 == 0 else 0
    return [
        f"scale=w='{wide}':h='{high}':eval=frame:flags=bicubic:interl={apart}",
        f"pad={width}:{height}:'2*trunc((ow-iw)/4)':'2*trunc((oh-ih)/4)':eval=frame",
    ]


def _exact_frame(plan: Plan, frame: int) -> int:
    """Return the last frame up to `frame` whose time is a whole number of ticks and of microseconds.

    The filter for the grid rounds its start time, which would shift all pictures.
    """
    ticks = 1 / (plan.rate * plan.video.time_base)
    step = lcm(ticks.denominator, (MICROSECONDS / plan.rate).denominator)
    return max(0, frame // step * step)


def _holds_first(plan: Plan, chunk: Chunk, *, from_start: bool) -> bool:
    return plan.lead_frames > 0 and (from_start or chunk.encoded_from < plan.lead_frames)


def _holds(plan: Plan, chunk: Chunk, *, tolerant: bool, from_start: bool) -> list[str]:
    """Return the filter that repeats the first or last picture where the chunk extends beyond it."""
    options = []
    if _holds_first(plan, chunk, from_start=from_start):
        options.append(f"start_mode=clone:start={plan.lead_frames}")
    if tolerant or chunk.end_frame > plan.last_source_frame:
        options.append("stop_mode=clone:stop=-1")
    return [f"tpad={':'.join(options)}"] if options else []


def _named_once(plan: Plan) -> Plan:
    """Return `plan` with the primaries of the first picture: zscale rejects pictures that have none."""
    if plan.video.colours_change != "primaries":
        return plan
    return replace(plan, video=replace(plan.video, colours_change="coding"))


def _upright(plan: Plan, rung: Rung) -> list[str]:
    turned = plan.video.is_turned
    width, height = (rung.height, rung.width) if turned else (rung.width, rung.height)
    return [*scale_to_bt709(plan.video, width, height), *plan.video.orientation, "setsar=1"]


def _cascade(rungs: tuple[Rung, ...], encoder: EncoderName) -> str:
    """Return the end of the graph: every rung is scaled from the next larger one."""
    if len(rungs) == 1:
        return "[v0]"
    scale = "scale_cuda" if encoder == "h264_nvenc" else "scale"
    flags = f":{CUDA_SCALING}" if encoder == "h264_nvenc" else ":flags=bicubic"
    parts = [",split=2[v0][below0]"]
    for number, rung in enumerate(rungs[1:], start=1):
        is_last = number == len(rungs) - 1
        outputs = f"[v{number}]" if is_last else f",split=2[v{number}][below{number}]"
        size = f"{rung.width}:{rung.height}"
        parts.append(f";[below{number - 1}]{scale}={size}{flags},setsar=1{outputs}")
    return "".join(parts)


def video_options(plan: Plan, chunk: Chunk, encoder: EncoderName) -> list[str]:
    """Return the encoder options of all renditions, equal in every chunk except for times."""
    shared = NVENC if encoder == "h264_nvenc" else x264.X264
    own = [
        word
        for number, rung in enumerate(plan.rungs)
        for option, value in _own_options(plan, chunk, rung, encoder).items()
        for word in (f"{option}:v:{number}", value)
    ]
    return [
        *(*shared, *_b_frames(plan.rate, encoder), *own),
        *("-g", NO_KEY_FRAMES, "-forced-idr", "1"),
        *("-bsf:v", ",".join([*_without_warm_up(chunk), _decode_times(plan, chunk)])),
        *OUTPUT_TAGS,
    ]


def _own_options(plan: Plan, chunk: Chunk, rung: Rung, encoder: EncoderName) -> dict[str, str]:
    """Return the options of one rendition: rates, level, and the encoder's option for quality.

    Forced key frames are included: from FFmpeg 6.0 on, options for all streams apply only to the first.
    """
    allowed = limits_of(rung)
    level = lowest_level(rung.width, rung.height, plan.rate, allowed.peak_bps, allowed.buffer_bits)
    return {
        **(nvenc_options(rung) if encoder == "h264_nvenc" else x264_options(rung, _buffer_at_start(chunk))),
        "-level": level,
        "-maxrate": str(allowed.peak_bps),
        "-bufsize": str(allowed.buffer_bits),
        "-force_key_frames": _key_frame_times(plan, chunk),
    }


def limits_of(rung: Rung) -> Limits:
    """Return the peak rate and buffer size of `rung`."""
    return limits(rung.video_bps, is_capped=rung.crf is not None)


def _buffer_at_start(chunk: Chunk) -> float:
    return BUFFER_AT_WARM_UP if chunk.warm_up_frames else BUFFER_AT_START


def x264_options(rung: Rung, buffer_at_start: float = BUFFER_AT_START) -> dict[str, str]:
    """Return libx264's options of one rendition; without a rate factor, by average bit rate."""
    own = [*x264.parameters(rung.profile, rung.height)]
    rate = {"-b": str(rung.video_bps)}
    if rung.crf is not None:
        own.append(f"vbv-init={buffer_at_start}")
        rate = {"-crf": f"{rung.crf:g}"}
    parameters = {"-x264-params": ":".join(own)} if own else {}
    return {"-threads": str(x264.threads(rung.height)), **parameters, **rate}


def nvenc_options(rung: Rung) -> dict[str, str]:
    """Return NVENC's options of one rendition; without a rate factor, by average bit rate."""
    if rung.crf is None:
        return {"-b": str(rung.video_bps)}
    return {"-cq": f"{constant_quality(rung.crf):g}", "-b": "0"}


def _b_frames(rate: Fraction, encoder: EncoderName) -> list[str]:
    if not reorder_frames(rate):
        return ["-bf", "0"]
    return ["-bf", "2"] if encoder == "h264_nvenc" else []


def reorder_frames(rate: Fraction) -> int:
    """Return the reordering delay in frames at a given frame rate."""
    return REORDER_FRAMES if rate >= REORDER_RATE else 0


def _without_warm_up(chunk: Chunk) -> list[str]:
    """Return the packet filter that drops the frames encoded before the chunk; its first is a key frame."""
    return [f"noise=drop='lt(pts,{chunk.first_frame})'"] if chunk.warm_up_frames else []


def _decode_times(plan: Plan, chunk: Chunk) -> str:
    """Return the packet filter that gives packet n of a chunk the decode time of its first frame + n - delay.

    Decode times are counted instead of taken from the encoder, so that they continue across joins of
    different encoders (FFmpeg 5.1 miscounts NVENC's at non-integer rates). Neither encoder reorders by more
    than the delay, so no picture is shown before it is decoded. A tick of the filter is one frame, the
    encoder's time base (see audio_options).
    """
    return f"setts=pts=PTS:dts=N{chunk.first_frame - reorder_frames(plan.rate):+d}"


def _key_frame_times(plan: Plan, chunk: Chunk) -> str:
    """Return the times of forced key frames in seconds, a quarter frame early against rounding."""
    frames = key_frames(plan.starts_in(chunk), chunk.end_frame, plan.rate)
    return ",".join(f"{max(0.0, float((frame - 0.25) / plan.rate)):.6f}" for frame in frames)
