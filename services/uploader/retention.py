"""The local files of a video to remove once it is stored; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal


@dataclass(frozen=True)
class Retention:
    """What DELETE_LOCAL_AFTER_S3 says."""

    delete_local_after_s3: bool

    def deletes_local(self, kind: Literal["local", "s3"]) -> bool:
        """Tell whether local files are removed once they are in this storage: never if it is local."""
        return kind == "s3" and self.delete_local_after_s3
