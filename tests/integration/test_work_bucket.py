"""The work bucket on a real S3 server keeps the contract of workspaces; a public one is refused."""

from __future__ import annotations

from uuid import uuid4

import pytest
from aiohttp.test_utils import TestServer

from services.ingest import main as ingest
from services.transcoder import main as transcoder
from services.uploader import main as uploader
from shared.errors import ConfigurationError
from shared.service import private_bucket
from shared.service.workspace import open_workspace
from shared.storage.open_storage import open_s3
from tests.memory_s3 import MemoryS3
from tests.workspace_contract import WorkspaceContract


@pytest.fixture
def settings(servers, tmp_path):
    prefix = f"work-{uuid4().hex}/"
    return servers.settings(
        work_dir=tmp_path / "one", storage_type="s3", work="bucket", s3_work_prefix=prefix
    )


@pytest.fixture
async def work(settings):
    async with open_workspace(settings) as opened:
        yield opened
        await opened.storage.delete_prefix(opened.prefix)


class TestWorkBucket(WorkspaceContract):
    @pytest.fixture
    async def other(self, work, settings, tmp_path):
        async with open_workspace(settings.model_copy(update={"work_dir": tmp_path / "two"})) as opened:
            yield opened


@pytest.mark.parametrize("service", [ingest, transcoder, uploader])
async def test_no_service_starts_with_a_work_bucket_that_anyone_can_read(service, servers, tmp_path):
    async with MemoryS3().serving() as open_to_all:
        settings = servers.settings(
            work_dir=tmp_path,
            storage_type="s3",
            work="bucket",
            s3_endpoint_url=open_to_all.url,
            s3_bucket=open_to_all.bucket,
            sandbox="off",
        )
        with pytest.raises(ConfigurationError, match="WORK=bucket: anyone can read the bucket"):
            await TestServer(service.create_app(settings)).start_server()


async def test_private_bucket_is_accepted_and_a_public_one_refused_by_name(settings, monkeypatch):
    urls = [f"{settings.s3_endpoint_url}/{settings.s3_bucket}"]
    async with open_s3(settings.of_work_bucket()) as storage:
        await private_bucket.expect_private(storage, settings.work_prefix, urls)
        assert await storage.keys(settings.work_prefix) == []

        async def anyone(_):
            return True

        monkeypatch.setattr(private_bucket, "_can_read", anyone)
        with pytest.raises(ConfigurationError, match=settings.s3_bucket):
            await private_bucket.expect_private(storage, settings.work_prefix, urls)
        assert await storage.keys(settings.work_prefix) == []
