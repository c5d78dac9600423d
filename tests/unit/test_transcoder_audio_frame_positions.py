from __future__ import annotations

from fractions import Fraction

from services.transcoder.media import AudioAnchor, AudioGrid
from services.transcoder.probe.audio_frame_positions import (
    find_audio_grid,
    index_audio_frames,
    needs_frame_index,
)

MILLI = Fraction(1, 1000)


def stamps(step, rate, base, count=2000, origin=0):
    return [round(Fraction(origin + step * number, rate) / base) for number in range(count)]


def test_grid_is_found_behind_rounded_timestamps():
    lattice = find_audio_grid(stamps(1024, 44_100, MILLI), MILLI, 44_100, "aac")
    assert lattice is not None
    assert lattice.step == 1024
    assert abs(lattice.origin) <= 22  # half a millisecond
    assert lattice.tolerance < 150


def test_grid_is_exact_when_timestamps_are_exact():
    base = Fraction(1, 48_000)
    assert find_audio_grid(stamps(1024, 48_000, base, origin=-1024), base, 48_000, "aac") == AudioGrid(
        -1024, 1024, 4
    )


def test_grid_has_holes_when_packets_are_lost():
    pts = stamps(1152, 48_000, MILLI)
    lattice = find_audio_grid(pts[:700] + pts[710:], MILLI, 48_000, "mp3")
    assert lattice is not None
    assert lattice.step == 1152


def test_no_grid_when_the_clock_drifts():
    pts = [round(number * 1024 / 44_100 * 1000 * 1.001) for number in range(3000)]
    assert find_audio_grid(pts, MILLI, 44_100, "aac") is None


def test_no_grid_when_packet_sizes_vary():
    base, time, pts = Fraction(1, 48_000), 0, []
    for number in range(100):
        pts.append(time)
        time += 1024 if number % 2 else 900
    assert find_audio_grid(pts, base, 48_000, "pcm_s16le") is None


def test_map_counts_frames_of_mixed_sizes():
    sizes = [128, 576, 1024, 1024, 576, 128, 1024, 1024] * 50
    frames, time = [], 0
    for size in sizes:
        frames.append((round(Fraction(time, 44_100) / MILLI), size))
        time += size
    found = index_audio_frames(frames, MILLI, 44_100)
    assert found is not None
    assert list(found.counted) == [sum(sizes[:number]) for number in range(len(sizes))]
    anchor = found.anchor_before(100_000, 20_000)
    assert anchor is not None
    assert 80_000 < anchor.counted <= 100_000
    assert anchor.counted in found.counted
    assert anchor.after < anchor.timed
    assert found.anchor_before(0, 20_000) == AudioAnchor(-20_000, 0, 0)


def test_no_map_when_sound_is_missing():
    assert index_audio_frames([(0, 1024), (23, 1024), (1000, 1024)], MILLI, 44_100) is None


def test_map_is_needed_only_for_vorbis_on_a_coarse_clock():
    assert needs_frame_index({"codec_name": "vorbis", "time_base": "1/1000", "sample_rate": "44100"})
    assert not needs_frame_index({"codec_name": "vorbis", "time_base": "1/44100", "sample_rate": "44100"})
    assert not needs_frame_index({"codec_name": "aac", "time_base": "1/1000", "sample_rate": "44100"})
