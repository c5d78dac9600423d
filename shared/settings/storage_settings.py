"""The settings of one storage."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path  # noqa: TC003 - pydantic reads annotations
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, SecretStr, model_validator

from shared.settings.s3_defaults import S3Provider, s3_defaults
from shared.settings.urls import HttpUrl


class StorageSettings(BaseModel):
    """The settings of a storage; fields are named like the environment variables."""

    storage_type: Literal["local", "s3"] = "local"
    storage_id: UUID | None = None

    s3_provider: S3Provider = "generic"
    s3_bucket: str = ""
    s3_endpoint_url: HttpUrl = ""
    s3_region: str = ""
    s3_access_key_id: str = ""
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_session_token: SecretStr = SecretStr("")
    s3_addressing_style: Literal["path", "virtual", ""] = ""
    s3_public_url: HttpUrl = ""
    s3_presign_endpoint_url: HttpUrl = ""
    s3_single_put_bytes: Annotated[int, Field(ge=0)] = 64 * 1024**2
    s3_part_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024**2
    s3_sse: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = ""
    s3_sse_kms_key_id: str = ""
    s3_delete_versions: bool = False

    @model_validator(mode="before")
    @classmethod
    def _fill_from_provider(cls, values: dict[str, object]) -> dict[str, object]:
        for name, default in s3_defaults(values).items():
            values.setdefault(name, default)
        return values

    @model_validator(mode="after")
    def _check_s3_is_complete(self) -> StorageSettings:
        if self.storage_type == "s3":
            needed = ["s3_bucket", *([] if self.s3_provider == "aws" else ["s3_endpoint_url"])]
            if missing := [name.upper() for name in needed if not getattr(self, name)]:
                raise ValueError(f"STORAGE_TYPE=s3 needs {' and '.join(missing)}")
        if self.s3_sse_kms_key_id and not self.s3_sse.startswith("aws:kms"):
            raise ValueError("S3_SSE_KMS_KEY_ID needs S3_SSE=aws:kms")
        return self

    @property
    @abstractmethod
    def local_root(self) -> Path:
        """The root directory of a local storage."""

    @property
    def takes_private(self) -> bool:
        """Whether private videos are stored here if their own storage is public."""
        return False

    @property
    def is_choosable(self) -> bool:
        """Whether users may name this storage."""
        return False

    @property
    def is_public(self) -> bool:
        """Whether anyone can read the storage, which rules out private videos."""
        return bool(self.s3_public_url)
