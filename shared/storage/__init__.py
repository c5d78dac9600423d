"""Storage of finished media: `open_storages(settings)` yields the configured storages."""

from shared.storage.interface import ObjectReader, OpenUpload, Storage, StoredObject
from shared.storage.open_storage import open_storage, open_storages
from shared.storage.storages import Storages

__all__ = [
    "ObjectReader",
    "OpenUpload",
    "Storage",
    "Storages",
    "StoredObject",
    "open_storage",
    "open_storages",
]
