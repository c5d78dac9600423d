"""Compare encoding through the pipeline with what could be used instead: `make bench-encode`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import commands, contenders, results, sources
from tests.bench.machine import describe_machine, describe_versions
from tests.bench.measure import CommandFailed, run_quietly
from tests.bench.quality import COMPARED_SECONDS
from tests.bench.report import show_source
from tests.bench.results import TITLES, as_json

if TYPE_CHECKING:
    from tests.bench.results import Ratio, Result
    from tests.bench.sources import Source

MEDIA: Final = contenders.REPOSITORY.parent / "shared" / "media"
OUTPUT: Final = contenders.REPOSITORY / "docs" / "bench"


def main() -> int:
    """Run the benchmark; returns 1 when a contender failed, after all of them have run."""
    options = _parser().parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    kinds = options.sources.split(",")
    names = [results.OURS] if options.long else options.contenders.split(",")
    seconds = results.LONG_SECONDS if options.long else options.seconds
    kinds = kinds[:1] if options.long else kinds
    report = _head(seconds)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=len(kinds) * (len(names) + 1))
        for kind in kinds:

            def begin(what: str, kind: str = kind) -> None:
                progress.update(task, description=f"{kind}: {what}")

            begin("making the source")
            try:
                source = sources.make_source(kind, seconds, options.media)
            except (sources.NoMedia, CommandFailed) as error:
                report["skipped"].append({"kind": kind, "reason": str(error)})
                progress.advance(task, len(names) + 1)
                continue
            progress.advance(task)
            found = []
            for name in names:
                begin(TITLES[name])
                found.append(_run(name, source, is_long=options.long))
                progress.advance(task)
                progress.console.print(escape(_line(kind, found[-1])))
            report["sources"].append(_section(source, found))
    report["versions"] = describe_versions()
    return _finish(report, options.out, "encode-long" if options.long else "encode", console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.encode", description=__doc__)
    environ = os.environ
    parser.add_argument("--seconds", type=float, default=float(environ.get("BENCH_SECONDS") or 60))
    parser.add_argument("--media", type=Path, default=Path(environ.get("BENCH_MEDIA") or MEDIA))
    parser.add_argument("--out", type=Path, default=Path(environ.get("BENCH_OUT") or OUTPUT))
    parser.add_argument("--sources", default=",".join(sources.KINDS), help="default: %(default)s")
    parser.add_argument("--contenders", default=",".join(contenders.RUNNERS), help="default: %(default)s")
    parser.add_argument(
        "--long", action="store_true", help=f"ours alone, on a source of {results.LONG_SECONDS} s"
    )
    return parser


def _head(seconds: float) -> dict[str, Any]:
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "compared_seconds": min(seconds, COMPARED_SECONDS),
        "machine": describe_machine(),
        "ladder": [as_json(rung) for rung in commands.LADDER],
        "skipped": [],
        "sources": [],
    }


def _run(name: str, source: Source, *, is_long: bool) -> Result:
    with contenders.work_folder() as folder:
        job = contenders.Job(source.path, source.seconds, folder / name)
        if is_long:
            return contenders.run_long(job)
        return contenders.run(name, job)


def _line(kind: str, result: Result) -> str:
    """Return one line of news about a contender that is done."""
    figures = f"{result.usage.wall_seconds:.1f} s" if result.usage else ""
    return f"{kind}: {TITLES[result.name]}: {result.error or figures}"


def _section(source: Source, found: list[Result]) -> dict[str, Any]:
    judged: list[Ratio] = results.ratios(found, source.seconds)
    return {
        "kind": source.kind,
        "seconds": source.seconds,
        "bytes": source.path.stat().st_size,
        "contents": source.contents,
        "contenders": [{"title": TITLES[result.name], **as_json(result)} for result in found],
        "ratios": as_json(judged),
    }


def _finish(report: dict[str, Any], folder: Path, stem: str, console: Console) -> int:
    """Write and print the results; returns the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{stem}.json"
    target.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for section in report["sources"]:
        show_source(section, report["machine"]["cores"], console)
    for skipped in report["skipped"]:
        console.print(escape(f"skipped {skipped['kind']}: {skipped['reason']}"))
    console.print(f"figures: {target}")
    if report["sources"] and stem == "encode":
        _draw(target, folder / f"{stem}.png", console)
    failed = [each for section in report["sources"] for each in section["contenders"] if each["error"]]
    return 1 if failed or not report["sources"] else 0


def _draw(figures: Path, picture: Path, console: Console) -> None:
    try:
        contenders.install()
        python = contenders.VENV / "bin" / "python"
        chart = Path(__file__).with_name("chart.py")
        run_quietly([str(python), str(chart), str(figures), str(picture)], 300)
        console.print(f"picture: {picture}")
    except CommandFailed as error:
        console.print(escape(f"no picture: {error}"))


if __name__ == "__main__":
    sys.exit(main())
