"""Storage of finished media: `open_storage(settings)` yields what the configuration names."""

from shared.storage.config import open_storage
from shared.storage.interface import ObjectReader, OpenUpload, Storage, StoredObject

__all__ = ["ObjectReader", "OpenUpload", "Storage", "StoredObject", "open_storage"]
