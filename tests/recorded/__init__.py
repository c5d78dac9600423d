"""ffprobe's output for small files, so that tests can scan and plan sources without it.

Record again after a change of its arguments, and check the differences: `python -m tests.recorded.record`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.transcoder.ffmpeg.runner import FfmpegRunner, Finished

FOLDER = Path(__file__).parent


def key_of(argv: list[str], path: str) -> str:
    """Return what identifies a run: what it asks, wherever the file is and whatever is allowed."""
    begin = next(place for place, each in enumerate(argv) if each.startswith(("-show", "-select")))
    return " ".join(argv[begin:]).replace(path, "SOURCE")


@dataclass(frozen=True)
class RecordedFfmpeg(FfmpegRunner):
    """Answers from the recording of a file."""

    name: str = ""
    path: str = ""

    async def run_program(self, argv: Any, *, on_line: Any, **_options: Any) -> Finished:
        """Answer as the program did."""
        recorded = json.loads((FOLDER / f"{self.name}.json").read_text())
        answer = recorded[key_of([*argv], self.path)]
        for line in answer["lines"]:
            on_line(line)
        return Finished(answer["returncode"], answer["stderr"])
