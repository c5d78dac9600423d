"""Compare encoding through the pipeline with what could be used instead: `make bench-encode`.

Three parts, each with its own figures: `cost` (time and CPU seconds of whole conversions), `quality` (bits at
equal quality) and `peaks` (the largest segment against the average).
"""

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
from tests.bench.measure import CommandFailed, Usage, run_quietly
from tests.bench.peaks import measure_peaks
from tests.bench.quality import COMPARED_SECONDS
from tests.bench.quality_part import Wanted, measure_quality
from tests.bench.report import show_source
from tests.bench.results import TITLES, Result, as_json

if TYPE_CHECKING:
    from tests.bench.sources import Source

MEDIA: Final = contenders.REPOSITORY.parent / "shared" / "media"
OUTPUT: Final = contenders.REPOSITORY / "docs" / "bench"


def main() -> int:
    """Run the parts of the benchmark; returns 1 when a contender failed, after all of them have run."""
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    parts = ["cost"] if options.long else options.parts.split(",")
    return max(PARTS[part](options, console) for part in parts)


def _measure_cost(options: argparse.Namespace, console: Console) -> int:
    names = [results.OURS] if options.long else options.contenders.split(",")
    names += [results.BEFORE] if options.before and not options.long else []
    seconds = results.LONG_SECONDS if options.long else options.seconds
    kinds = options.sources.split(",")[: 1 if options.long else None]
    stem = "encode-long" if options.long else "encode"
    report = _head(seconds)
    kept = _kept(options.out / f"{stem}.json") if options.more else {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=len(kinds))
        for kind in kinds:
            progress.update(task, description=f"{kind}: making the source")
            try:
                source = sources.make_source(kind, seconds, options.media)
            except (sources.NoMedia, CommandFailed) as error:
                report["skipped"].append({"kind": kind, "reason": str(error)})
                continue
            found = {each["name"]: each for each in kept.pop(kind, {}).get("contenders", [])}
            for name in [results.OURS] if kind == sources.TINY else names:
                progress.update(task, description=f"{kind}: {TITLES[name]}")
                result = _run(name, source, options)
                found[name] = {"title": TITLES[name], **as_json(result)}
                progress.console.print(escape(_line(kind, result)))
            report["sources"].append(_section(source, found))
            progress.advance(task)
    report["sources"] += kept.values()
    report["versions"] = describe_versions()
    return _finish(report, options.out, stem, console)


def _kept(target: Path) -> dict[str, dict[str, Any]]:
    """Return the sections of a previous run by the kind of their source."""
    former = json.loads(target.read_text()) if target.exists() else {"sources": []}
    return {section["kind"]: section for section in former["sources"]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.encode", description=__doc__)
    environ = os.environ
    parser.add_argument("--seconds", type=float, default=float(environ.get("BENCH_SECONDS") or 60))
    parser.add_argument("--media", type=Path, default=Path(environ.get("BENCH_MEDIA") or MEDIA))
    parser.add_argument("--out", type=Path, default=Path(environ.get("BENCH_OUT") or OUTPUT))
    parser.add_argument("--sources", default=",".join(sources.KINDS), help="default: %(default)s")
    parser.add_argument("--contenders", default=",".join(contenders.USUAL), help="default: %(default)s")
    parser.add_argument("--before", type=Path, help="another checkout, whose pipeline is measured as well")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: %(default)s")
    parser.add_argument("--renditions", default=",".join(rung.name for rung in commands.LADDER))
    parser.add_argument("--contents", default=None, help="names of contents or films, with commas")
    parser.add_argument("--more", action="store_true", help="keep the results that the files already have")
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


def _run(name: str, source: Source, options: argparse.Namespace) -> Result:
    with contenders.work_folder() as folder:
        place = folder / name
        job = contenders.Job(source.path, source.seconds, place, source.ladder, before=options.before)
        if options.long:
            return contenders.run_long(job)
        return contenders.run(name, job)


def _line(kind: str, result: Result) -> str:
    """Return one line of progress about a contender that has finished."""
    figures = f"{result.usage.wall_seconds:.1f} s" if result.usage else ""
    return f"{kind}: {TITLES[result.name]}: {result.error or figures}"


def _section(source: Source, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    measured = [
        Result(name, Usage(**each["usage"]) if each["usage"] else None, error=each["error"])
        for name, each in found.items()
    ]
    is_tiny = source.kind == sources.TINY
    judged = results.fixed_cost(measured) if is_tiny else results.ratios(measured, source.seconds)
    return {
        "kind": source.kind,
        "seconds": source.seconds,
        "bytes": source.path.stat().st_size,
        "contents": source.contents,
        "contenders": [found[name] for name in TITLES if name in found],
        "ratios": as_json(judged),
    }


def _finish(report: dict[str, Any], folder: Path, stem: str, console: Console) -> int:
    """Write and print the results; returns the exit status."""
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


def _measure_quality(options: argparse.Namespace, console: Console) -> int:
    wanted = Wanted(options.contents, options.renditions.split(","), options.media, is_added=options.more)
    target = measure_quality(wanted, options.out, console)
    _draw(target, target.with_suffix(".png"), console, "curves_chart.py")
    return 0


def _measure_peaks(options: argparse.Namespace, console: Console) -> int:
    return measure_peaks(options.out, console, options.contents)


def _draw(figures: Path, picture: Path, console: Console, script: str = "chart.py") -> None:
    try:
        contenders.install()
        python = contenders.VENV / "bin" / "python"
        chart = Path(__file__).with_name(script)
        run_quietly([str(python), str(chart), str(figures), str(picture)], 300)
        console.print(f"picture: {picture}")
    except CommandFailed as error:
        console.print(escape(f"no picture: {error}"))


PARTS: Final = {"cost": _measure_cost, "quality": _measure_quality, "peaks": _measure_peaks}

if __name__ == "__main__":
    sys.exit(main())
