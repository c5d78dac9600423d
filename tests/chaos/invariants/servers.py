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
    """Addresses of the servers, and the work volume of the services.

    With `s3_work_bucket` there is a work bucket instead, and `work_dir` has the scratch of each process.
    """

    database_url: str
    rabbitmq_url: str
    s3_endpoint_url: str
    s3_region: str
    s3_bucket: str
    s3_access_key_id: str
    s3_secret_access_key: str
    work_dir: Path
    s3_work_bucket: str = ""
    s3_work_prefix: str = "work/"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Addresses:
        """Read the services' variables. Raises KeyError when one is missing."""
        names = [name for name in cls.__dataclass_fields__ if not (name == "work_dir" or "s3_work" in name)]
        optional = [name for name in cls.__dataclass_fields__ if "s3_work" in name and name.upper() in env]
        given = {name: env[name.upper()] for name in (*names, *optional)}
        return cls(**given, work_dir=Path(env["WORK_DIR"]))

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
