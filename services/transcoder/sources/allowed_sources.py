"""The files and objects that an event may use as a source; pure.

The pipeline's own files and objects are never allowed, since they belong to all users. SOURCE_DIRS and
SOURCE_BUCKETS restrict the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from shared.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from uuid import UUID


OWN_DIRECTORIES: Final = ("uploads", "originals", "chunks", "media")
OWN_PREFIX: Final = "hls"
BUCKET: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]"
)  # not an ARN, which may name any bucket
NOTHING: Final = "none"

Place = TypeVar("Place")


@dataclass(frozen=True)
class BucketPrefix:
    """All objects of a bucket under a prefix; an empty prefix means the whole bucket."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> BucketPrefix:
        """Parse `bucket` or `bucket/prefix`."""
        bucket, _, prefix = text.partition("/")
        return cls(bucket, prefix.strip("/"))

    def holds(self, bucket: str, key: str) -> bool:
        """Tell whether an object is included."""
        return bucket == self.bucket and (not self.prefix or key.startswith(f"{self.prefix}/"))


@dataclass(frozen=True)
class SourcePolicy:
    """The permitted sources; `directories` and `buckets` None: everything except the pipeline's own."""

    root: Path
    directories: tuple[Path, ...] | None = None
    buckets: tuple[BucketPrefix, ...] | None = None
    own_objects: tuple[BucketPrefix, ...] = ()

    @classmethod
    def of(
        cls,
        work_dir: Path,
        *,
        dirs: Sequence[str] = (),
        buckets: Sequence[str] = (),
        own_buckets: Sequence[str] = (),
        own_prefixes: Sequence[BucketPrefix] = (),
    ) -> SourcePolicy:
        """Return the policy that the settings describe; `dirs` are relative to the work directory."""
        root = work_dir.resolve()
        return cls(
            root,
            _listed(dirs, lambda name: (root / name).resolve()),
            _listed(buckets, BucketPrefix.parse),
            (*(BucketPrefix(bucket, OWN_PREFIX) for bucket in own_buckets if bucket), *own_prefixes),
        )

    def check_not_own(self, path: Path, video_id: UUID) -> None:
        """Raise SourceUnavailable for a resolved path in a directory of the pipeline.

        The uploaded original of the video itself is allowed.
        """
        first, *rest = path.relative_to(self.root).parts or ("",)
        if first in OWN_DIRECTORIES and (first, *rest) != ("originals", str(video_id), "source"):
            raise SourceUnavailable("the source is in a directory of the pipeline itself")

    def check_file(self, path: Path, video_id: UUID) -> None:
        """Raise SourceUnavailable for a forbidden resolved path."""
        self.check_not_own(path, video_id)
        is_upload = path == self.root / "originals" / str(video_id) / "source"
        if self.directories is not None and not is_upload and not _lies_in(path, self.directories):
            raise SourceUnavailable("the source is not in a directory of SOURCE_DIRS")

    def check_object(self, bucket: str, key: str) -> None:
        """Raise SourceUnavailable for a forbidden object."""
        if not BUCKET.fullmatch(bucket):
            raise SourceUnavailable("the source has no valid bucket name")
        if any(part in ("", ".", "..") for part in key.split("/")):  # some servers resolve such components
            raise SourceUnavailable("the key of the source has empty, `.` or `..` components")
        if any(place.holds(bucket, key) for place in self.own_objects):
            raise SourceUnavailable("the source is an object of the pipeline itself")
        if self.buckets is not None and not any(place.holds(bucket, key) for place in self.buckets):
            raise SourceUnavailable("the source is not in a bucket of SOURCE_BUCKETS")


def _listed(names: Sequence[str], read: Callable[[str], Place]) -> tuple[Place, ...] | None:
    """Return the items of a setting: None if empty, which allows all; `none` allows nothing."""
    return tuple(read(name) for name in names if name != NOTHING) if names else None


def _lies_in(path: Path, directories: Iterable[Path]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)
