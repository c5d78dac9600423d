"""One continuous clock for sources whose timestamps jump, start again or are wrong."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.transcoder.media import MapSection, TimeMap
from services.transcoder.probe.discontinuities import find_clock
from services.transcoder.probe.packets import PacketLine, Packets
from services.transcoder.probe.timestamps import correct, find_falls, regular_steps, uneven_steps, wrong_times
from shared.errors import CorruptSource

BASE = Fraction(1, 90_000)
FRAME, SOUND = 3600, 1920


def packets(times, step, orders=None):
    found = Packets()
    for number, time in enumerate(times):
        order = number if orders is None else orders[number]
        found.add(PacketLine(0, time, time, step, order, "K_"), order)
    return found


def recording(start, seconds, step):
    return [start + step * number for number in range(int(seconds * 90_000 / step))]


def interleaved(*parts):
    """Return pictures and sound of recordings that follow each other in the file."""
    pictures, sounds = [], []
    for place, (start, seconds) in enumerate(parts):
        pictures += [(time, place * 10**9 + time - start) for time in recording(start, seconds, FRAME)]
        sounds += [(time, place * 10**9 + time - start) for time in recording(start, seconds, SOUND)]
    return (
        packets([time for time, _ in pictures], FRAME, [order for _, order in pictures]),
        packets([time for time, _ in sounds], SOUND, [order for _, order in sounds]),
    )


def clock_of(*parts, container="mpegts"):
    video, audio = interleaved(*parts)
    clock = find_clock(container, video, BASE, audio, BASE)
    return clock, list(clock.pictures(video).pts), list(clock.sound(audio).pts)


def test_steady_clock_is_left_alone():
    clock, pictures, _ = clock_of((126_000, 4))
    assert (clock.video, clock.audio, clock.warnings) == (None, None, ())
    assert pictures == recording(126_000, 4, FRAME)


@pytest.mark.parametrize("jump", [11, 60, 3600])
def test_jump_ahead_is_closed_in_pictures_and_sound(jump):
    clock, pictures, sound = clock_of((126_000, 4), (126_000 + (4 + jump) * 90_000, 4))
    assert pictures == recording(126_000, 8, FRAME)
    half = recording(126_000, 4, SOUND)
    assert sound == [*half, *(time + 4 * 90_000 for time in half)]
    assert [warning.code for warning in clock.warnings] == ["clock_jump_closed"]
    assert clock.warnings[0].start_seconds == pytest.approx(1.4 + 4, abs=0.1)
    assert not clock.starts_again


def test_pause_of_a_few_seconds_is_kept():
    clock, _, _ = clock_of((0, 4), (9 * 90_000, 4))
    assert clock.video is None


def test_jump_is_kept_where_sound_continues():
    video = packets([*recording(0, 4, FRAME), *recording(60 * 90_000, 4, FRAME)], FRAME)
    audio = packets(recording(0, 64, SOUND), SOUND)
    assert find_clock("mpegts", video, BASE, audio, BASE).video is None


def test_slide_that_is_shown_for_a_minute_is_kept_in_file_formats():
    slides = packets([number * 60 * 90_000 for number in range(10)], 60 * 90_000)
    assert find_clock("mov", slides, BASE, None, BASE).video is None


def test_recordings_whose_clock_starts_again_follow_each_other():
    clock, pictures, sound = clock_of((126_000, 4), (126_000, 3), (60_000, 2))
    assert pictures == recording(126_000, 9, FRAME)
    assert sound[:187] == recording(126_000, 4, SOUND)
    assert sound[187] == 126_000 + 4 * 90_000
    assert clock.starts_again
    assert [warning.code for warning in clock.warnings] == ["recordings_joined"] * 2


def test_clock_that_starts_again_endlessly_is_refused():
    with pytest.raises(CorruptSource, match="starts again"):
        clock_of(*[(0, 2)] * 80)


@pytest.mark.parametrize("seed", range(20))
def test_a_few_wrong_times_are_moved_to_where_pictures_are_missing(seed):
    chance = random.Random(seed)
    right = recording(0, 12, FRAME)
    first, count = chance.randrange(5, 250), chance.randrange(1, 9)
    away = chance.choice([-1, 1]) * chance.randrange(11, 100_000) * 90_000
    given = [time + away if first <= n < first + count else time for n, time in enumerate(right)]
    video = packets(given, FRAME)
    clock = find_clock("mov", video, BASE, None, BASE)
    assert list(clock.pictures(video).pts) == right
    assert [warning.code for warning in clock.warnings] == ["times_corrected"]


def test_wrong_time_at_the_end_is_found():
    times = [*recording(10**9, 4, FRAME), 0]
    assert wrong_times(times, BASE) == [100]
    assert correct(times, [100]) == ((0, 10**9 + 99 * FRAME),)


def test_wrong_times_do_not_count_as_falls():
    times = recording(0, 4, FRAME)
    times[50] = 10**9
    assert find_falls(times, wrong_times(times, BASE), BASE) == []
    assert find_falls([*times[60:], *times[:40]], [], BASE) == [40]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(10**6), 10**6),
    st.lists(st.tuples(st.integers(10**4, 10**6), st.integers(10**4, 10**6)), max_size=5),
)
def test_map_can_be_inverted(shift, jumps):
    cuts, moment = [], 0
    for recorded, removed in jumps:
        cuts.append((moment + recorded + removed // 2, removed))
        moment += recorded + removed
    section = MapSection(shift, tuple(cuts))
    begins = [0, *(middle + removed - removed // 2 for middle, removed in cuts)]
    for begin in begins:
        assert section.undo(section.apply(begin)) == begin
        assert section.undo(section.apply(begin + 9_000)) == begin + 9_000


def test_map_is_scaled_to_other_ticks():
    given = TimeMap(90_000, (MapSection(900, ((1800, 90),)),), ((90, 180),))
    assert given.scaled(Fraction(48, 90)) == TimeMap(48_000, (MapSection(480, ((960, 48),)),), ((48, 96),))


def test_more_wrong_times_than_a_command_can_correct_are_refused():
    times = recording(0, 600, FRAME)
    wrong = {index: time + 10**9 + index for index, time in enumerate(times) if index % 25 == 5}
    video = packets([wrong.get(index, time) for index, time in enumerate(times)], FRAME)
    with pytest.raises(CorruptSource, match="600 pictures have wrong timestamps"):
        find_clock("mov", video, BASE, None, BASE)


def test_regular_times_are_described_by_the_first_and_a_step():
    assert regular_steps([0, 80, 40, 120]) == (0, Fraction(40))
    assert regular_steps([0, 33, 67, 100]) == (0, Fraction(100, 3))  # rounded times
    assert regular_steps([0, 40, 100, 120]) is None
    assert regular_steps([5]) is None
    assert regular_steps([]) is None


def test_pictures_of_a_regular_source_with_wrong_times_are_counted():
    times = recording(126_000, 8, FRAME)
    wrong = [time + 90_000 * 60 if 50 <= number < 54 else time for number, time in enumerate(times)]
    clock = find_clock("mov", packets(wrong, FRAME), BASE, None, BASE)
    assert clock.video.steps == (126_000, Fraction(FRAME))
    uneven = [time + (FRAME // 2 if number == 20 else 0) for number, time in enumerate(wrong)]
    counted = find_clock("mov", packets(uneven, FRAME), BASE, None, BASE).video
    assert (counted.steps, counted.leaps) == ((126_000, Fraction(FRAME)), ((20, 1800), (21, -1800)))


@pytest.mark.parametrize("seed", range(20))
def test_uneven_times_are_counted(seed):
    chance = random.Random(seed)
    times = sorted(chance.sample(range(0, 40_000, 40), 300))
    (first, step), leaps = uneven_steps(times)
    counted = [
        first + number * step + sum(extra for place, extra in leaps if number >= place)
        for number in range(len(times))
    ]
    assert max(abs(ours - time) for ours, time in zip(counted, times, strict=True)) * 4 <= step


def test_times_that_leap_too_often_are_not_counted():
    assert uneven_steps([number * number for number in range(3000)]) is None
    assert uneven_steps([5]) is None


@pytest.mark.parametrize("back", [0.25, 0.6, 1.0])
def test_short_fall_of_both_picture_and_sound_is_a_join_of_recordings(back):
    start = 126_000 + round((4 - back) * 90_000)
    clock, pictures, _ = clock_of((126_000, 4), (start, 4))
    assert [warning.code for warning in clock.warnings] == ["recordings_joined"]
    assert pictures == recording(126_000, 8, FRAME)


def test_short_fall_of_the_picture_alone_is_jitter():
    video, _ = interleaved((126_000, 4), (126_000 + round(3.4 * 90_000), 4))
    _, audio = interleaved((126_000, 8))
    assert find_clock("mpegts", video, BASE, audio, BASE).video is None
    clock, _, _ = clock_of((126_000, 4), (126_000 + round(3.4 * 90_000), 4), container="mov")
    assert clock.video is None
