"""Storage of finished media: `open_storage(settings)` yields what the configuration names."""

from shared.storage.interface import ObjectReader, OpenUpload, Storage, StoredObject
from shared.storage.open_storage import open_storage

__all__ = ["ObjectReader", "OpenUpload", "Storage", "StoredObject", "open_storage"]
