"""Viewing metrics: what reports contain, and what the collector makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from services.streamer.cmcd_collector import MAX_BYTES, RATE, Rate
from services.streamer.cmcd_reports import MAX_LINES, ViewingReport, read_reports
from tests.unit.test_streamer_private import ID, streamer, token
from tests.unit.test_streamer_private import private as private_video

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RENDITIONS = ("720p", "360p")
CMCD = {"Content-Type": "application/cmcd"}


@pytest.mark.parametrize(
    ("line", "report"),
    [
        ('v=2,ts=1,e=ps,sta=p,msd=830,vod-rendition="720p"', ViewingReport("720p", starts=(0.83,))),
        ('bsd=(1200 300;v),vod-rendition="360p",v=2', ViewingReport("360p", stalls=(1.2, 0.3))),
        ('e=t, vod-played=30000, vod-rendition="720p"', ViewingReport("720p", played=(30.0,))),
        ('e=e,ec=("network" "fragLoadError")', ViewingReport("other", errors=("network", "other"))),
        ('bs,bg,sid="3f2a",cid="a,b=\\"c\\"",su,v=2', ViewingReport("other")),
        ('msd=99999999,vod-rendition="9999p"', ViewingReport("other")),
        ("msd=-5,bsd=(x -3)", ViewingReport("other")),
        ("bsd=(" + "1000 " * 2000 + ")", ViewingReport("other", stalls=(1.0,) * 4)),
        ("ec=(" + '"media" ' * 900 + ")", ViewingReport("other", errors=("media",) * 4)),
        ('br=(2400;v 128;a),url="https://cdn.example/t/eyJ/x.ts"', ViewingReport("other")),
    ],
)
def test_report_is_read_for_its_counted_values(line: str, report: ViewingReport) -> None:
    assert read_reports(line + "\n", RENDITIONS) == [report]


@pytest.mark.parametrize("body", ["{}", "a b", "msd==1", 'sid="open', "=1", "msd=1,,", "\x00", "v=2\n" * 33])
def test_body_that_is_no_report_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="report"):
        read_reports(body, RENDITIONS)


def test_several_reports_may_arrive_together() -> None:
    assert len(read_reports("v=2\n\n" * MAX_LINES, RENDITIONS)) == MAX_LINES


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"v=2\n"


async def test_viewer_reports_and_metrics_grow_by_rendition() -> None:
    async with streamer({ID: private_video()}) as client:
        path = f"/watch/{ID}/t/{token()}/viewing"
        before = counted("vod_viewing_stall_seconds_sum", rendition="720p")
        body = 'e=ps,sta=p,bsd=(1500),vod-rendition="720p",v=2\ne=e,ec=("media"),vod-rendition="720p",v=2\n'
        got = await client.post(path, data=body, headers=CMCD)
        assert (got.status, got.headers["Cache-Control"], "Set-Cookie" in got.headers) == (
            204,
            "no-store",
            False,
        )
        assert counted("vod_viewing_stall_seconds_sum", rendition="720p") == before + 1.5
        assert counted("vod_viewing_errors_total", rendition="720p", reason="media") >= 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("nonsense here", CMCD, 400),
        (b"\xff\xfe", CMCD, 400),
        ("v=2", {"Content-Type": "application/json"}, 415),
        ("v" * (MAX_BYTES + 1), CMCD, 413),
        (pieces(MAX_BYTES), CMCD, 413),
    ],
)
async def test_wrong_report_is_refused(body: object, headers: dict[str, str], status: int) -> None:
    async with streamer({ID: private_video()}) as client:
        got = await client.post(f"/watch/{ID}/t/{token()}/viewing", data=body, headers=headers)
        assert got.status == status


async def test_stranger_reports_nothing_and_learns_nothing() -> None:
    async with streamer({ID: private_video()}) as client:
        got = await client.post(f"/watch/{ID}/viewing", data="v=2", headers=CMCD)
        assert (got.status, (await got.json(content_type=None))["reason"]) == (401, "token_missing")


async def test_too_many_reports_are_refused() -> None:
    async with streamer({ID: private_video()}) as client:
        rate = client.app[RATE]  # type: ignore[index]
        rate._left, rate._clock = 1.0, lambda: rate._at
        path = f"/watch/{ID}/t/{token()}/viewing"
        answers = [await client.post(path, data="v=2", headers=CMCD) for _ in range(2)]
        assert [answer.status for answer in answers] == [204, 429]
        assert answers[1].headers["Retry-After"] == "10"


def test_rate_is_kept_on_average() -> None:
    now = [0.0]
    rate = Rate(10, clock=lambda: now[0])
    assert sum(rate.take() for _ in range(50)) == 10
    now[0] = 0.5
    assert sum(rate.take() for _ in range(50)) == 5
    now[0] = 100.0
    assert sum(rate.take() for _ in range(50)) == 10
