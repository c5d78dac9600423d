"""Reported peculiarities of other providers, as far as they are emulated, are tolerated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from shared.errors import StorageRefused
from tests.doctor_cases import KEYS, REGION
from tests.integration.test_storage_doctor import backend
from tests.integration.test_strict_providers import PART, naive, ours, use
from tests.providers.front import Front
from tests.providers.rules import (
    b2_headers,
    oci_requests,
    ovh_checksums,
    scaleway_parts,
    unquoted_etags,
    without_etags,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.providers.front import Backend

__all__ = ["backend"]  # the fixture of an empty bucket
REPORTED = {
    "b2": ([b2_headers], []),
    "ovh": ([ovh_checksums], []),
    "oci": ([oci_requests], []),
    "no etags": ([], [without_etags]),
    "bare etags": ([], [unquoted_etags]),
}


@pytest.mark.parametrize("name", REPORTED)
async def test_reported_peculiarities_are_tolerated(
    servers: Any, backend: Backend, tmp_path: Path, name: str
) -> None:
    rules, transforms = REPORTED[name]
    front = Front(backend, KEYS, REGION, rules=rules, transforms=transforms)
    async with front, ours(servers, tmp_path, front) as storage:
        await use(storage, tmp_path)
        await storage.put_bytes("hls/a.ts", b"x")
        found = [await storage.head("hls/a.ts"), *await storage.keys("hls")]
        async with storage.read("hls/a.ts") as reader:
            found.append(reader.object)
        await storage.delete("hls/a.ts")
    assert all(re.fullmatch('"[^"]+"', each.etag) for each in found if each)
    refused = [asked for asked in front.seen if asked.method == "POST" and "delete" in asked.query]
    assert len(refused) == 1, "the batch is deleted at once"


async def put(client: Any) -> None:
    await client.put_object(Bucket="videos", Key="a", Body=b"x")


async def delete_batch(client: Any) -> None:
    await client.delete_objects(Bucket="videos", Delete={"Objects": [{"Key": "a"}]})


@pytest.mark.parametrize(
    ("rule", "ask", "code"),
    [
        (b2_headers, put, "InvalidArgument"),
        (ovh_checksums, put, "InvalidRequest"),
        (oci_requests, delete_batch, "InvalidRequest"),
    ],
    ids=["b2", "ovh", "oci"],
)
async def test_reported_refusals_apply_to_a_naive_client(
    backend: Backend, rule: Any, ask: Any, code: str
) -> None:
    front = Front(backend, KEYS, REGION, rules=[rule])
    async with front, naive(front, REGION) as client:
        with pytest.raises(ClientError, match=code):
            await ask(client)


async def test_large_objects_have_no_more_parts_than_scaleway_accepts(
    servers: Any, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lower limit on both sides: a thousand parts of 5 MiB would take too long."""
    monkeypatch.setattr("tests.providers.rules.MAX_PARTS", 2)
    (tmp_path / "large").write_bytes(bytes(2 * PART + 1))
    front = Front(backend, KEYS, REGION, rules=[scaleway_parts])
    async with front, ours(servers, tmp_path, front) as storage:
        with pytest.raises(StorageRefused, match="InvalidArgument"):
            await storage.put_file("hls/a.ts", tmp_path / "large")
        monkeypatch.setattr("shared.storage.s3.multipart.MAX_PARTS", 2)
        assert await storage.put_file("hls/a.ts", tmp_path / "large") == 2 * PART + 1
        await storage.delete("hls/a.ts")
