"""What compose.yaml's `setup` does, on real servers."""

from __future__ import annotations

import importlib.util
from uuid import uuid4

import pytest

from devstack.programs import REPOSITORY
from shared.storage.open_storage import open_s3


@pytest.fixture
def first_start():
    path = REPOSITORY / "deploy" / "compose" / "first_start.py"
    spec = importlib.util.spec_from_file_location("first_start", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings(servers, tmp_path):
    return servers.settings(work_dir=tmp_path, storage_type="s3")


@pytest.fixture
def environ(settings, empty_database_url):
    return {
        "BIND": "127.0.0.1",
        "DATABASE_URL": empty_database_url,
        "RABBITMQ_URL": "amqp://of-no-use",
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "S3_REGION": settings.s3_region,
        "S3_ACCESS_KEY_ID": settings.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key.get_secret_value(),
        "S3_BUCKET": f"videos-{uuid4().hex[:8]}",
        "S3_WORK_BUCKET": f"work-{uuid4().hex[:8]}",
        "WORK": "bucket",
    }


async def remove(settings, names):
    async with open_s3(settings) as storage:
        for name in names:
            await storage.client.delete_bucket(Bucket=name)


async def test_both_buckets_and_one_key_are_made_however_often_it_runs(first_start, environ, settings):
    first, second = [await first_start._prepare(environ) for _ in range(2)]
    await remove(settings, [environ["S3_BUCKET"], environ["S3_WORK_BUCKET"]])
    assert first.startswith("The first API key")
    assert "vod_" in first
    assert second.startswith("There is an API key already")
    assert "vod_" not in second
