"""Files that were cut off, at any byte, in every container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.generated.case import FRAMES, RATE, Case

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.generated.case import Material

OTHER_CODECS = {
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-g", 50, "-b:v", "2M", "-c:a", "libopus"),
    "wmv": ("-c:v", "msmpeg4", "-g", 50, "-b:v", "2M", "-c:a", "wmav2"),
    "ogv": ("-c:v", "libtheora", "-g", 50, "-b:v", "2M", "-c:a", "libvorbis"),
    "mpg": ("-c:v", "mpeg2video", "-g", 50, "-bf", 0, "-b:v", "2M", "-c:a", "mp2"),
}
FRAGMENTS = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
REMUXED = {
    "faststart": ("faststart.mp4", "-movflags", "+faststart"),
    "moov_last": ("moov_last.mp4",),
    "fragmented": ("fragmented.mp4", *FRAGMENTS),
    "live": ("live.mkv", "-live", 1),
}
CONTAINERS = ("faststart", "moov_last", "fragmented", "mkv", "avi", "flv", "ts")
WITHOUT_LENGTH = ("live", "ogv", "mpg")  # whose last element, page or packet alone tells that there was more
TELLING = frozenset({"source_incomplete", "source_damaged", "source_gap"})


def whole(material: Material, container: str) -> Path:
    """Return the clip in `container`."""
    if container == "mkv":
        return material.clip
    if container == "avi":
        return material.avi()
    name, *options = REMUXED.get(container, (f"clip.{container}", *OTHER_CODECS.get(container, ())))
    return material.remuxed(name, *options)


def cut(chance: random.Random) -> Case:
    """Return a file that contains only the beginning."""
    container = chance.choice(CONTAINERS)
    share = chance.uniform(0.03, 0.995)
    odd = chance.randrange(1, 188)  # a transport stream cut between packets is a shorter one
    return _cut(container, share, odd=odd, may_be_refused=share < 0.7 or container == "moov_last")


def cut_of_other_codecs(chance: random.Random) -> Case:
    """Return the beginning of a file in a container for other codecs, or of one that a live source writes."""
    container, share = chance.choice((*OTHER_CODECS, "live")), chance.uniform(0.2, 0.98)
    return _cut(container, share, may_be_refused=share < 0.7 and container not in WITHOUT_LENGTH)


def _cut(container: str, share: float, *, odd: int = 0, may_be_refused: bool) -> Case:
    """Return a share of a file; of a transport stream `odd` bytes more than whole packets."""

    def build(folder: Path, material: Material) -> Path:
        source = whole(material, container)
        data = source.read_bytes()
        size = int(len(data) * share)
        size -= size % 188 - odd if container == "ts" else 0
        path = folder / f"cut{source.suffix}"
        path.write_bytes(data[:size])
        return path

    return Case(
        name=f"cut {container} to {share:.3f}",
        build=build,
        codes=TELLING,
        allowed=TELLING | {"audio_left_out"},
        seconds=None,
        sound=None,
        may_lose=3,
        may_be_refused=may_be_refused,
    )


def uncut(chance: random.Random) -> Case:
    """Return a file that is complete: no warning may be given."""
    container = chance.choice((*CONTAINERS, *OTHER_CODECS, "live"))
    slack = 0.1 if container in CONTAINERS and container not in {"avi", "flv"} else 0.2
    return Case(
        name=f"complete {container}",
        build=lambda _, material: whole(material, container),
        seconds=FRAMES / RATE,
        tolerance_seconds=slack,
    )


def hole(chance: random.Random) -> Case:
    """Return a transport stream with packets missing in the middle."""
    begin, length = chance.uniform(0.2, 0.6), chance.uniform(0.01, 0.2)

    def build(folder: Path, material: Material) -> Path:
        data = whole(material, "ts").read_bytes()
        first, last = (int(len(data) * share) // 188 * 188 for share in (begin, begin + length))
        path = folder / "hole.ts"
        path.write_bytes(data[:first] + data[last:])
        return path

    return Case(
        name=f"hole of {length:.3f} in ts",
        build=build,
        codes=TELLING,
        allowed=TELLING,
        sound=None,
        tolerance_seconds=0.3,
        may_lose=60,  # of the group of pictures that the hole is in: shown damaged, or held
    )


def spoilt(chance: random.Random) -> Case:
    """Return a file of which a stretch is zeros, as after a failed copy: what is lost is reported."""
    container = chance.choice(("faststart", "fragmented", "mkv", "avi", "flv", "ts"))
    begin, length = chance.uniform(0.15, 0.75), chance.choice((0.002, 0.01, 0.05, 0.2))

    def build(folder: Path, material: Material) -> Path:
        source = whole(material, container)
        data = bytearray(source.read_bytes())
        first, size = int(len(data) * begin), int(len(data) * length)
        data[first : first + size] = bytes(size)
        path = folder / f"spoilt{source.suffix}"
        path.write_bytes(data)
        return path

    return Case(
        name=f"{length} of {container} spoilt from {begin:.3f} on",
        build=build,
        codes=TELLING | {"picture_differs", "picture_frozen"},
        allowed=TELLING | {"audio_differs", "starts_late", "times_corrected", "clock_jump_closed"},
        seconds=None,
        sound=None,
        may_lose=25,  # a decoder gives pictures that are half of one and half of another
    )
