"""How files pass between the services before they are stored."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.settings.groups import DefaultStorageSettings, WorkVolumeSettings

PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class WorkspaceSettings(WorkVolumeSettings, DefaultStorageSettings):
    """The work volume, or a private bucket instead; with a bucket WORK_DIR is the scratch of each process."""

    work: Literal["volume", "bucket"] = "volume"
    s3_work_bucket: str = ""
    s3_work_prefix: str = "work/"
    upload_stale_seconds: Annotated[float, Field(ge=10)] = 3600.0

    @model_validator(mode="after")
    def _check_work_bucket(self) -> WorkspaceSettings:
        if self.work == "volume":
            return self
        if self.storage_type != "s3":
            raise ValueError(
                "WORK=bucket needs STORAGE_TYPE=s3 and the S3_* settings: local storage is on a volume that"
                " all services share"
            )
        if not PREFIX.fullmatch(self.work_prefix) or self.work_prefix.partition("/")[0] == "hls":
            raise ValueError("S3_WORK_PREFIX must be a path such as work/, and not below hls/")
        for name, each in self.by_storage.items():
            if each.is_public and (each.s3_endpoint_url, each.s3_bucket) == self._work_place:
                raise ValueError(
                    f"WORK=bucket: anyone can read the bucket {each.s3_bucket}, since the storage {name} has"
                    " S3_PUBLIC_URL: set S3_WORK_BUCKET to a private bucket"
                )
        return self

    @property
    def work_bucket(self) -> str:
        return self.s3_work_bucket or self.s3_bucket

    @property
    def work_prefix(self) -> str:
        return self.s3_work_prefix.rstrip("/")

    @property
    def _work_place(self) -> tuple[str, str]:
        return self.s3_endpoint_url, self.work_bucket

    def of_work_bucket(self) -> WorkspaceSettings:
        """Return the settings to open the work bucket as a storage."""
        return self.model_copy(update={"s3_bucket": self.work_bucket, "s3_public_url": ""})
