"""Plans (plans/) and messages (messages/) of earlier versions: one file for every change.

Today's code has to finish all of them: videos are in progress, or may be repaired, when services are updated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.media import Clip

HERE = Path(__file__).parent
CLIP = Clip(frames=105)  # the source of every stored plan: three chunks of 1, 2 and 1 segments
VIDEO_ID = "0a1b2c3d-0000-4000-8000-000000000001"
SOURCE_URI = "file:clip.mp4"


def names(kind: str) -> list[str]:
    """Return the names of what is stored under `kind`: "plans" or "messages"."""
    return sorted(path.stem for path in (HERE / kind).glob("*.json"))


def stored(kind: str, name: str) -> dict[str, Any]:
    """Return a stored plan (`plan` and `presentation`), or messages by type."""
    return dict(json.loads((HERE / kind / f"{name}.json").read_text()))
