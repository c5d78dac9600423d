"""Finds the bytes of a source that a chunk needs, from the seek points of its inputs to their ends; pure.

FFmpeg opens a source twice for a chunk, for picture and sound. Both seek by pictures: reading starts at the
key frame (or its cluster) before the seek point. It reads further than the last output: decoders hold
pictures back, and each input has a queue.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from fractions import Fraction
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, Final

from services.transcoder.byte_spans import fewer, merged
from services.transcoder.plan.model import ChunkReads, PacketCount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.transcoder.byte_map import ByteMap, TrackPlaces
    from services.transcoder.byte_spans import Spans
    from services.transcoder.plan.model import Chunk, Plan

EARLY_SECONDS: Final = Fraction(3, 23) + Fraction(1, 50)  # FFmpeg seeks this much too early, plus rounding
SEARCH_SECONDS: Final = Fraction(1)  # how far before the moment a search may start to read
SETTLED_SECONDS: Final = Fraction(1, 2)  # after which all packets of a search have arrived
AUDIO_SECONDS: Final = Fraction(1, 2)  # interleaving of sound around the key frame of a seek
BEYOND_SECONDS: Final = Fraction(1, 2)  # of sound after the last picture
BEYOND_PACKETS: Final = 48  # after the last one needed: 16 threads, 16 reordered pictures, a queue of 8
GAP_BYTES: Final = 1 << 16  # gaps that are cheaper to read than to skip
KEYS_BEYOND: Final = 6  # that a decoder needs before it returns the first one
SLACK_BYTES: Final = 1 << 16  # the remaining parts of interleaved packets (MPEG-TS)
MAX_SPANS: Final = 24
THUMBNAIL_MOMENTS: Final = (0.125, 0.375, 0.625, 0.875)


class ReadPlanner:
    """Finds what each chunk of a source reads; created once per plan, from the positions of packets."""

    def __init__(self, plan: Plan, found: ByteMap) -> None:
        self._plan, self._map = plan, found
        self._video = _Track(found.video)
        self._audio = _Track(found.audio) if found.audio else None

    def reads_of(self, chunk: Chunk) -> ChunkReads:
        """Return the parts to read for `chunk` besides the head of the file."""
        video, audio = self._plan.video, self._plan.audio
        end = video.start_seconds + (chunk.end_frame - self._plan.lead_frames + 1) / self._plan.rate
        tracks = [(self._video, self._pictures(chunk.video_seek_seconds, end))]
        counts = [
            self._video.count(
                video.index, chunk.video_seek_seconds, self._counted_from(chunk.video_seek_seconds), end
            )
        ]
        if audio is not None and self._audio is not None:
            tracks.append((self._audio, self._sound(self._audio, chunk.audio_seek_seconds, end)))
            begin = self._counted_from(chunk.audio_seek_seconds)
            counts.append(self._audio.count(audio.index, chunk.audio_seek_seconds, begin, end))
        return ChunkReads(self._spans(tracks), tuple(counts))

    def spans_at(self, moments: Iterable[float]) -> Spans:
        """Return the parts to read for single pictures at moments from 0 (the beginning) to 1.

        If only key frames are decoded, the decoder returns one after the next ones have arrived.
        """
        video, numbers = self._plan.video, set[int]()
        for moment in moments:
            seconds = video.start_seconds + Fraction(moment) * video.frames / video.rate
            landing = self._landing(float(seconds))
            numbers.update(range(landing, self._video.stop(seconds)))
            for key in self._video.keys_from(landing, KEYS_BEYOND):
                numbers.update(range(key, min(key + 2, self._video.packets)))
        return merged(self._video.spans(numbers), GAP_BYTES)

    def _pictures(self, seek: float | None, end: Fraction) -> range:
        return range(self._landing(seek), self._video.stop(end))

    def _sound(self, track: _Track, seek: float | None, end: Fraction) -> range:
        first = 0
        if seek is not None:
            first = track.first_from(self._video.seconds(self._landing(seek)) - AUDIO_SECONDS)
        return range(first, track.stop(end + BEYOND_SECONDS))

    def _landing(self, seek: float | None) -> int:
        """Return the packet of the picture where reading starts after a seek."""
        if seek is None:
            return 0
        if self._map.layout == "searched":
            return self._video.first_from(Fraction(seek) - SEARCH_SECONDS)
        return self._video.key_before(Fraction(seek) - EARLY_SECONDS)

    def _counted_from(self, seek: float | None) -> Fraction | None:
        """Return the moment from which on a seek yields all packets."""
        if seek is None:
            return None
        return Fraction(seek) + (SETTLED_SECONDS if self._map.layout == "searched" else 0)

    def _spans(self, tracks: list[tuple[_Track, range]]) -> Spans:
        if self._map.layout == "indexed":
            spans = (span for track, numbers in tracks for span in track.spans(numbers))
            return fewer(merged(spans, GAP_BYTES), MAX_SPANS)
        begin = min(track.lowest(numbers) for track, numbers in tracks)
        size = self._map.size_bytes
        end = max(track.position(numbers.stop, size) for track, numbers in tracks)
        if self._map.layout == "clustered":
            begin = self._map.starts[max(0, bisect_right(self._map.starts, begin) - 1)]
        return ((begin, min(end + SLACK_BYTES, size)),)


class _Track:
    """The packets of a track, searchable by time."""

    def __init__(self, places: TrackPlaces) -> None:
        self._places = places
        numbers = sorted(range(len(places.times)), key=places.times.__getitem__)
        self._times = [places.times[number] for number in numbers]
        self._last = list(accumulate(numbers, max))  # the latest packet among those up to each time
        self._first = list(accumulate(reversed(numbers), min))[::-1]
        keys = [number for number in numbers if places.is_key[number]]
        self._key_times = [places.times[number] for number in keys]
        self._keys = keys

    @property
    def packets(self) -> int:
        return len(self._times)

    def keys_from(self, number: int, most: int) -> list[int]:
        """Return the first key frames from a packet on."""
        return sorted(key for key in self._keys if key >= number)[:most]

    def seconds(self, number: int) -> Fraction:
        """Return the time of a packet."""
        return self._places.times[number] * self._places.base

    def key_before(self, moment: Fraction) -> int:
        """Return the last key frame up to a moment."""
        place = bisect_right(self._key_times, moment / self._places.base) - 1
        return self._keys[place] if place >= 0 else 0

    def first_from(self, moment: Fraction) -> int:
        """Return the first packet in the file with a time from a moment on."""
        place = bisect_left(self._times, moment / self._places.base)
        return self._first[place] if place < len(self._first) else len(self._times) - 1

    def stop(self, end: Fraction) -> int:
        """Return the packet after the last one that is read for pictures before a moment."""
        place = bisect_left(self._times, end / self._places.base) - 1
        last = self._last[place] if place >= 0 else 0
        return min(len(self._times), last + 1 + BEYOND_PACKETS)

    def count(self, stream: int, seek: float | None, begin: Fraction | None, end: Fraction) -> PacketCount:
        """Return the number of packets with times between two moments."""
        base = self._places.base
        first = self._times[0] if begin is None else ceil(begin / base)
        last = ceil(end / base)
        packets = max(0, bisect_left(self._times, last) - bisect_left(self._times, first))
        return PacketCount(stream, seek, float(end), first, last, packets)

    def spans(self, numbers: Iterable[int]) -> Spans:
        """Return the byte range of packets."""
        places = self._places
        return tuple(
            (places.positions[number], places.positions[number] + places.sizes[number]) for number in numbers
        )

    def lowest(self, numbers: range) -> int:
        """Return the position of the first of some packets."""
        return min((self._places.positions[number] for number in numbers), default=0)

    def position(self, number: int, size_bytes: int) -> int:
        """Return the position of a packet; the end of the file after the last."""
        return self._places.positions[number] if number < len(self._times) else size_bytes
