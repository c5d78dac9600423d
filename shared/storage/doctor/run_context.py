"""A run of the doctor over a bucket: its clients, and how failures are recorded."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from aiohttp import ClientError as HttpClientError
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import StorageUnavailable
from shared.storage.doctor.causes import advice_for, check_of, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.settings import StorageSettings
    from shared.storage.doctor.findings import Report
    from shared.storage.s3.storage import S3Storage

FAULTS = (ClientError, BotoCoreError, HttpClientError, TimeoutError, OSError, StorageUnavailable, KeyError)


@dataclass
class Probe:
    """The storage being diagnosed; all test objects are below `prefix`."""

    settings: StorageSettings
    storage: S3Storage
    report: Report
    origins: Sequence[str] = ()
    fixes_cors: bool = False
    can_read: bool = False
    prefix: str = field(default_factory=lambda: f"hls/vod-doctor/{uuid4()}")

    @property
    def bucket(self) -> str:
        return self.storage.bucket

    @contextmanager
    def trying(self, check: str, right: str = "", advice: str = "") -> Iterator[None]:
        """Record an error in the block under the check that it belongs to."""
        try:
            yield
        except FAULTS as error:
            cause = error.__cause__ if isinstance(error, StorageUnavailable) and error.__cause__ else error
            name = check_of(cause, check)
            advised = advice_for(name, cause, right) or advice or "see the server's log"
            self.report.fail(name, f"{check}: {said(cause)}", advised)
