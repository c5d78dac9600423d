from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.ingest.conftest import assert_problem

if TYPE_CHECKING:
    from tests.integration.ingest.conftest import Api

TINY = {"name": "tiny", "shortSide": 144, "videoBitrate": 100_000, "audioBitrate": 64_000}
USUAL = {"rateControl": "quality", "quality": None, "profile": "balanced"}
LARGE = {"name": "large", "shortSide": 2160, "videoBitrate": 15_000_000}


async def test_presets_are_replaced_as_a_whole(api: Api) -> None:
    _, before, _ = await api.call("GET", "/api/presets")
    assert [preset["name"] for preset in before] == ["1080p", "720p", "480p", "360p"]

    status, after, _ = await api.call("PUT", "/api/presets", as_="admin", json=[TINY, LARGE])

    assert (status, after) == (200, [LARGE | USUAL | {"audioBitrate": 128_000}, TINY | USUAL])
    assert (await api.call("GET", "/api/presets"))[1] == after
    assert (await api.upload(qualities="tiny"))[0] == 202
    assert_problem(await api.upload(qualities="720p"), 400, "unknown_quality")
    assert (await api.call("PUT", "/api/presets", as_="admin", json=before))[1] == before


async def test_rate_control_of_a_preset_is_kept(api: Api) -> None:
    ladder = [
        TINY | {"rateControl": "quality", "quality": 88.5, "profile": "speed"},
        TINY | {"name": "abr", "rateControl": "abr", "quality": None, "profile": "quality"},
    ]
    _, before, _ = await api.call("GET", "/api/presets")
    assert all(preset.items() >= USUAL.items() for preset in before)
    _, after, _ = await api.call("PUT", "/api/presets", as_="admin", json=ladder)
    assert sorted(after, key=lambda preset: preset["name"]) == ladder[::-1]
    await api.call("PUT", "/api/presets", as_="admin", json=before)


@pytest.mark.parametrize(
    "ladder",
    [
        [],
        [TINY, TINY],
        [TINY | {"name": f"q{n}"} for n in range(17)],
        [TINY | {"name": "../x"}],
        [TINY | {"name": "Large"}],
        [TINY | {"shortSide": 145}],
        [TINY | {"shortSide": 14}],
        [TINY | {"shortSide": 4322}],
        [TINY | {"videoBitrate": 0}],
        [TINY | {"videoBitrate": 10**12}],
        [TINY | {"surprise": 1}],
        [TINY | {"rateControl": "vbr"}],
        [TINY | {"quality": 101}],
        [TINY | {"profile": "placebo"}],
        [TINY | {"rateControl": "abr", "quality": 90}],
        {"presets": [TINY]},
        "x",
    ],
)
async def test_presets_are_refused_when_wrong(api: Api, ladder: Any) -> None:
    result = await api.call("PUT", "/api/presets", as_="admin", json=ladder)
    assert_problem(result, 400, "invalid_request")
    assert len((await api.call("GET", "/api/presets"))[1]) == 4


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 5000])
async def test_body_is_refused_when_it_is_no_json(api: Api, body: bytes) -> None:
    assert_problem(await api.call("PUT", "/api/presets", as_="admin", data=body), 400, "invalid_request")


@pytest.mark.parametrize("key", ["alice", "service", "admin"])
async def test_preferences_are_kept(api: Api, key: str) -> None:
    path = "/api/users/alice/preferences"
    assert (await api.call("GET", path, as_=key))[1] == {"qualities": []}
    for wanted in (["480p", "720p"], ["360p"], []):
        status, answered, _ = await api.call("PUT", path, as_=key, json={"qualities": wanted})
        assert (status, answered) == (200, {"qualities": wanted})
        assert (await api.call("GET", path, as_=key))[1] == {"qualities": wanted}


async def test_preferences_skip_a_removed_preset(api: Api) -> None:
    path = "/api/users/alice/preferences"
    await api.call("PUT", path, json={"qualities": ["720p", "tiny"][:1]})
    await api.call("PUT", "/api/presets", as_="admin", json=[TINY])
    assert (await api.call("GET", path))[1] == {"qualities": []}


async def test_preferences_are_refused_when_wrong(api: Api) -> None:
    path = "/api/users/alice/preferences"
    assert_problem(await api.call("PUT", path, json={"qualities": ["725p"]}), 400, "unknown_quality")
    assert_problem(await api.call("PUT", path, json={"qualities": "720p"}), 400, "invalid_request")
    assert_problem(await api.call("PUT", path, as_="bob", json={"qualities": []}), 403, "forbidden")
    assert_problem(await api.call("GET", path, as_="bob"), 403, "forbidden")
    assert_problem(await api.call("GET", "/api/users/a.b/preferences", as_="admin"), 404, "not_found")
