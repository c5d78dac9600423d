"""Records ffprobe's output for the files of CLIPS: `python -m tests.recorded.record`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.transcoder.ffmpeg.input import Limits
from services.transcoder.ffmpeg.runner import FfmpegRunner
from services.transcoder.probe.scan import scan_source
from tests.recorded import FOLDER, key_of

if TYPE_CHECKING:
    from services.transcoder.ffmpeg.runner import Finished

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=1")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p")
CLIPS = {
    "film.mp4": (*PICTURE, *SOUND, *X264, "-c:a", "aac", "-bitexact"),
    "vorbis.mkv": (*PICTURE, *SOUND, *X264, "-c:a", "libvorbis", "-bitexact"),
}


@dataclass(frozen=True)
class Recorder(FfmpegRunner):
    """Runs the programs, and records their output."""

    path: str = ""
    runs: dict[str, Any] = field(default_factory=dict)

    async def run_program(self, argv: Any, *, on_line: Any, **options: Any) -> Finished:
        """Run a program."""
        lines: list[str] = []

        def take(line: str) -> None:
            lines.append(line.replace(self.path, "SOURCE"))
            on_line(line)

        finished = await super().run_program(argv, on_line=take, **options)
        answer = {"lines": lines, "returncode": finished.returncode, "stderr": finished.stderr}
        self.runs[key_of([*argv], self.path)] = answer
        return finished


def record(name: str, folder: Path) -> None:
    """Create a file, scan it, and record the output."""
    path = folder / name
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *CLIPS[name], str(path)], check=True)
    recorder = Recorder(mode="off", path=str(path))
    asyncio.run(scan_source(str(path), Limits(), recorder))
    (FOLDER / f"{name}.json").write_text(json.dumps(recorder.runs, indent=0, sort_keys=True) + "\n")


def main() -> None:
    """Record all files."""
    with tempfile.TemporaryDirectory() as folder:
        for name in CLIPS:
            record(name, Path(folder))


if __name__ == "__main__":
    main()
