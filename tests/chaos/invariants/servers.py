"""Addresses for the checks: the real servers, never the proxies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager


@dataclass(frozen=True)
class Addresses:
    """Addresses of the servers, and the work volume of the services."""

    database_url: str
    rabbitmq_url: str
    s3_endpoint_url: str
    s3_region: str
    s3_bucket: str
    s3_access_key_id: str
    s3_secret_access_key: str
    work_dir: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Addresses:
        """Read the services' variables. Raises KeyError when one is missing."""
        names = [name for name in cls.__dataclass_fields__ if name != "work_dir"]
        return cls(**{name: env[name.upper()] for name in names}, work_dir=Path(env["WORK_DIR"]))

    def s3(self) -> AbstractAsyncContextManager[Any]:
        """Open a client of the bucket's server."""
        return get_session().create_client(
            "s3",
            endpoint_url=self.s3_endpoint_url,
            region_name=self.s3_region,
            aws_access_key_id=self.s3_access_key_id,
            aws_secret_access_key=self.s3_secret_access_key,
            config=AioConfig(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
