"""The twin for unit tests keeps the contract of the real storages."""

import pytest

from shared.storage import Storage
from shared.storage.memory import MemoryStorage
from tests.storage_contract import StorageContract


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()

    @pytest.fixture
    def prefix(self) -> str:
        return "hls/alice/one"
