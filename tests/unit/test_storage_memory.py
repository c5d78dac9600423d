"""The in-memory storage fulfils the contract of the real storages, measured or not."""

from datetime import UTC, datetime

import pytest

from shared.storage import OpenUpload, Storage
from shared.storage.memory import MemoryStorage
from shared.storage.metered import MeasuredStorage
from tests.storage_contract import StorageContract


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()

    @pytest.fixture
    def begin_upload(self, storage):
        async def begin(key):
            storage.uploads.append(OpenUpload(key, str(len(storage.uploads)), datetime.now(UTC)))

        return begin

    @pytest.fixture
    def prefix(self) -> str:
        return "hls/alice/one"


class TestMeasuredStorage(TestMemoryStorage):
    @pytest.fixture
    def storage(self) -> Storage:
        return MeasuredStorage(MemoryStorage())

    @pytest.fixture
    def begin_upload(self, storage):
        async def begin(key):
            uploads = storage.inner.uploads
            uploads.append(OpenUpload(key, str(len(uploads)), datetime.now(UTC)))

        return begin
