from __future__ import annotations

import random
from fractions import Fraction

import pytest

from services.transcoder.plan.timeline import round_half_up
from services.transcoder.probe.frame_rate import bound_frames, measure_grid

RATES = ["24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60", "25/2", "10", "1/2"]


def stamps(rate, base, count=600, start=0):
    return [start + round(number / Fraction(rate) / base) for number in range(count)]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("base", [Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 12800)])
def test_grid_has_the_exact_rate_when_timestamps_are_rounded(rate, base):
    grid = measure_grid(stamps(rate, base, start=1234), 0, base)
    assert (grid.rate, grid.frames, grid.is_vfr) == (Fraction(rate), 600, False)


def test_grid_trusts_timestamps_when_headers_are_absurd():
    hints = [Fraction(57600), Fraction(1000), Fraction(600)]
    assert measure_grid(stamps(30, Fraction(1, 1000)), 0, Fraction(1, 1000), hints).rate == 30


def test_grid_accepts_an_odd_rate_when_it_is_steady():
    base = Fraction(1, 90000)
    assert measure_grid(stamps("59/2", base), 0, base).rate == Fraction(59, 2)


def test_grid_counts_missing_frames_when_some_were_dropped():
    base = Fraction(1, 1000)
    pts = [time for number, time in enumerate(stamps(25, base)) if number % 7 not in (3, 4)]
    grid = measure_grid(pts, 40, base)
    assert (grid.rate, grid.frames, grid.is_vfr) == (25, 598, False)


def test_grid_is_centred_when_timestamps_jitter():
    base, chance = Fraction(1, 1000), random.Random(1)
    pts = sorted(time + chance.randint(-12, 12) for time in stamps(30, base, start=1000))
    grid = measure_grid(pts, 33, base)
    slots = [round((time - grid.first_pts) * base * grid.rate) for time in pts]
    assert grid.rate == 30
    assert slots == list(range(600))


@pytest.mark.parametrize(("rate", "expected"), [(120, 60), (240, 60), (100, 50), ("1/10", "4/5")])
def test_grid_stays_within_bounds(rate, expected):
    assert measure_grid(stamps(rate, Fraction(1, 90000)), 0, Fraction(1, 90000)).rate == Fraction(expected)


def test_grid_is_fine_enough_when_distances_vary():
    base, time, pts = Fraction(1, 1000), 0, []
    for number in range(300):
        pts.append(time)
        time += 33 if number % 3 else 71
    grid = measure_grid(pts, 33, base)
    assert grid.is_vfr
    assert grid.rate == 30
    assert grid.frames == pytest.approx(time * 30 / 1000, abs=1)


def test_grid_works_for_one_picture():
    grid = measure_grid([500], 40, Fraction(1, 1000), [Fraction(25)])
    assert (grid.rate, grid.first_pts, grid.frames) == (25, 500, 1)
    assert measure_grid([0], 0, Fraction(1, 1000)).frames == 1


def test_grid_hardly_loses_a_picture_when_distances_swing():
    base, chance = Fraction(1, 1000), random.Random(5)
    pts = [0]
    while len(pts) < 3700:
        pts.append(pts[-1] + chance.randint(35, 65))
    grid = measure_grid(pts, 0, base)
    places = {round(tick * base * grid.rate) for tick in pts}
    assert grid.is_vfr
    assert len(places) >= 0.99 * len(pts)


@pytest.mark.parametrize("pts", [[0, 10**12], [0, 10**12, 3 * 10**12], [0, 1, 10**15]])
def test_grid_ends_when_pictures_are_years_apart(pts):
    grid = measure_grid(pts, 0, Fraction(1, 1000))
    assert grid.rate >= Fraction(1, 2)
    assert grid.frames >= len(pts)


def still_with_bursts(chance: random.Random, ticks: int) -> list[int]:
    """Return a screen recording's timestamps: now and then a picture, and bursts of 25 a second."""
    pts, time = [], 0.0
    for _ in range(chance.randint(40, 400)):
        pts.append(round(time * ticks))
        time += chance.choice((0.5, 1, 1, 1, 2))
        if chance.random() < 0.03:
            count = chance.randint(5, 60)
            pts += [round((time + number / 25) * ticks) for number in range(count)]
            time += count / 25
    return sorted(set(pts))


@pytest.mark.parametrize("seed", range(25))
def test_grid_keeps_the_motion_of_a_screen_recording(seed):
    ticks = random.Random(seed).choice((1000, 12_800, 90_000))
    pts = still_with_bursts(random.Random(seed), ticks)
    grid = measure_grid(pts, 0, Fraction(1, ticks))
    frames = [round_half_up((time - grid.first_pts) * grid.rate / ticks) for time in pts]
    lost = [pts[number] for number in range(1, len(pts)) if frames[number] == frames[number - 1]]
    assert len(lost) <= len(pts) // 100
    assert all(lost[number + 2] - lost[number] >= ticks for number in range(len(lost) - 2))


def test_grid_is_no_finer_for_pictures_that_no_rate_keeps():
    base = Fraction(1, 1000)
    pts = stamps(25, base, count=100)
    hiccup = [pts[50] + number for number in range(1, 8)]
    odd = sorted({*pts, *hiccup, pts[70] + 11})
    assert measure_grid(odd, 40, base).rate == 25


def test_few_pictures_do_not_become_endless_frames():
    base = Fraction(1, 1000)
    pts = [*range(0, 1000, 17), *(1000 + 590_000 * number for number in range(1, 40))]
    grid = measure_grid(pts, 17, base)
    bounded = bound_frames(grid, len(pts))
    assert grid.frames > 1_000_000
    assert bounded.frames < 30_000
    assert bounded.frames / bounded.rate == pytest.approx(float(grid.frames / grid.rate), abs=2)


def test_screen_recording_keeps_its_rate_however_seldom_it_changes():
    base = Fraction(1, 1000)
    pts = [*range(0, 3_600_000, 1000), *range(3_600_000, 3_610_000, 17)]
    grid = measure_grid(pts, 17, base)
    assert bound_frames(grid, len(pts)) == grid
