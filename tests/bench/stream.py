"""`make bench-stream`: our streamer, with and without the edge, beside bare nginx on the same objects.

All contenders serve the same public and private videos from one storage, one after the other in one run,
each by one worker process. What counts is the ratio to the one it is compared with: CPU time of the server
for the same number of requests or bytes, and requests a second where the server is what limits them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from devstack.environment import read_env_file
from shared.settings import Settings
from tests.bench import contenders
from tests.bench.machine import describe_machine
from tests.bench.measure import CommandFailed, run_quietly
from tests.bench.stream_film import CROWDED, cold_numbers, make_films, signed_paths
from tests.bench.stream_load import beside_idle, beside_slow, crowd, wrk, wrk_once
from tests.bench.stream_servers import REPOSITORY, StorageRequests, bare, fetch, streamer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.bench.stream_film import Film
    from tests.bench.stream_servers import Server

BEFORE, OURS, EDGE, BARE = "before", "streamer", "edge + streamer", "bare nginx"
ALIKE = "bare nginx, log and headers of the edge"
KINDS: Final = (
    "segment", "private segment", "range", "playlist", "playlist, gzip", "playlist, unchanged"
)  # fmt: skip
MANY_CONNECTIONS: Final = ("segment", "private segment", "playlist", "cold segment")
CONNECTIONS: Final = 64  # of the other kinds
VIEWERS, SLOW, IDLE = 200, 1000, 2000
HEADERS: Final = {
    "range": {"Range": "bytes=1000000-1065535"},
    "playlist, gzip": {"Accept-Encoding": "gzip, deflate, br"},
}


def paths(contender: str, films: tuple[Film, Film]) -> dict[str, str]:
    """Return the path of each kind of request; bare nginx serves the objects by their keys."""
    public, private = films
    if contender not in (BARE, ALIKE):
        segment, hidden, playlist = public.segment(1), private.segment(1), public.playlist
    else:
        segment, playlist = f"/{public.key}/720p/segment_001.ts", f"/{public.key}/720p/playlist.m3u8"
        hidden = segment
    return dict(zip(KINDS, (segment, hidden, segment, playlist, playlist, playlist), strict=True))


def path_of(contender: str, film: Film, number: int) -> str:
    """Return the path of a segment of the public video."""
    return f"/{film.key}/720p/segment_{number:03d}.ts" if contender in (BARE, ALIKE) else film.segment(number)


def measure(server: Server, contender: str, films: tuple[Film, Film], given: argparse.Namespace) -> list[Any]:
    """Load each kind with each number of connections."""
    rows = []
    for kind, path in paths(contender, films).items():
        headers = HEADERS.get(kind, {})
        _, first, _ = fetch(server.url + path, **headers)
        if kind == "playlist, unchanged":
            headers = {"If-None-Match": first["ETag"]}
        counts = connections_of(contender, kind, given)
        for connections in counts:
            load = wrk(server, path, connections, given.seconds, headers).as_json()
            rows.append({"kind": kind, "contender": contender, "connections": connections, **load})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def connections_of(contender: str, kind: str, given: argparse.Namespace) -> list[int]:
    """Return the numbers of connections to measure; the run has to end within minutes."""
    is_compared = contender in (OURS, EDGE, BARE) and kind in MANY_CONNECTIONS
    return given.connections if is_compared else [n for n in given.connections if n == CONNECTIONS]


def measure_cold(
    server: Server, contender: str, film: Film, home: Path, given: argparse.Namespace
) -> list[Any]:
    """Request segments that the server has never sent, different ones for each number of connections."""
    rows = []
    for turn, connections in enumerate(connections_of(contender, "cold segment", given)):
        cold = [path_of(contender, film, number) for number in cold_numbers(turn)]
        load = wrk_once(server, cold, connections, home / "once.lua").as_json()
        del load["requestsPerSecond"], load["megabytesPerSecond"]
        rows.append({"kind": "cold segment", "contender": contender, "connections": connections, **load})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def crowded(server: Server, contender: str, film: Film, asked: StorageRequests | None) -> Any:
    """Have 200 viewers request an uncached segment, and count the requests to the storage."""
    key, path = f"{film.key}/720p/segment_{CROWDED:03d}.ts", path_of(contender, film, CROWDED)
    before = asked.counts() if asked else None
    result = asyncio.run(crowd(server.url, path, VIEWERS))
    if asked and before is not None:
        new = asked.counts() - before
        result["storageRequests"] = sum(count for line, count in new.items() if line.endswith(key))
    return result


def special(
    server: Server, contender: str, films: tuple[Film, Film], asked: StorageRequests | None
) -> dict[str, Any]:
    """Measure what throughput does not show: crowds, slow and idle viewers, requests to the storage."""
    found = paths(contender, films)
    public = films[0]
    slow = [path_of(contender, public, number) for number in (1, 2)]
    result = {"contender": contender, "crowd": crowded(server, contender, public, asked)}
    result["idle"] = asyncio.run(beside_idle(server, found["playlist"], IDLE))
    result["slow"] = asyncio.run(beside_slow(server, slow, found["segment"], SLOW))
    if asked:
        before = asked.counts()
        wrk(server, found["playlist"], 4, 3, {})
        new = asked.counts() - before
        result["storageRequestsIn3sOfPlaylists"] = sum(new[line] for line in new if line.endswith(".m3u8"))
        before = asked.counts()
        fetch(server.url + path_of(contender, public, 3), **HEADERS["range"])
        result["storageRequestsOfOneRange"] = sum((asked.counts() - before).values())
    print(json.dumps(result), flush=True)
    return result


@contextmanager
def contender(name: str, home: Path, values: Mapping[str, str], films: Any, given: Any) -> Iterator[Server]:
    """Run one contender."""
    with ExitStack() as stack:
        if name in (BARE, ALIKE):
            urls: dict[str, str] = {}
            if values["STORAGE_TYPE"] == "s3":
                settings = Settings(**{key.lower(): value for key, value in values.items()})  # type: ignore[arg-type]
                urls = asyncio.run(signed_paths(settings, films[0]))
            server = urlsplit(values["S3_ENDPOINT_URL"]).netloc
            yield stack.enter_context(bare(home, values, server, urls, alike=name == ALIKE))
        else:
            tree = Path(given.before) if name == BEFORE else REPOSITORY
            yield stack.enter_context(streamer(home, values, tree=tree, edge=name == EDGE))


def of_storage(kind: str, home: Path, env: Mapping[str, str], given: argparse.Namespace) -> dict[str, Any]:
    """Compare all contenders on one storage."""
    values = {
        **env,
        "STORAGE_TYPE": kind,
        "WORK_DIR": str(home / "work"),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "INFO",
    }
    (home / "work").mkdir(parents=True)
    with ExitStack() as stack:
        asked = None
        if kind == "s3":
            asked = StorageRequests(home / "asked", urlsplit(env["S3_ENDPOINT_URL"]).netloc)
            stack.enter_context(asked.running())
            values["S3_ENDPOINT_URL"] = asked.url
        settings = Settings(**{key.lower(): value for key, value in values.items()})  # type: ignore[arg-type]
        films = asyncio.run(make_films(settings))
        rows, specials = [], []
        for number, name in enumerate([*([BEFORE] if given.before else []), OURS, EDGE, BARE, ALIKE]):
            place = home / f"run{number}"
            with contender(name, place, values, films, given) as server:
                if "load" in given.parts:
                    rows += measure(server, name, films, given)
                    rows += measure_cold(server, name, films[0], place, given)
                if "special" in given.parts and name != ALIKE:
                    specials.append(special(server, name, films, asked))
    return {"storage": kind, "load": rows, "special": specials}


def main(arguments: Sequence[str]) -> int:
    """Measure, and write or complete the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stream")
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 64, 1000])
    parser.add_argument("--storages", nargs="*", default=["s3", "local"])
    parser.add_argument("--parts", nargs="*", default=["load", "special"])
    parser.add_argument("--add", action="store_true", help="keep the other results in stream.json")
    parser.add_argument("--before", default="", help="a checkout to compare with")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "bench")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-stream-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with servers(home / "servers") as env:
            found = [of_storage(kind, home / kind, env, given) for kind in given.storages]
    target = given.out / "stream.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    former = json.loads(target.read_text()) if given.add and target.exists() else {"storages": []}
    about = {"machine": describe_machine(), "seconds": given.seconds}
    if "load" not in given.parts:
        about |= {name: former[name] for name in about.keys() & former.keys()}
    report = {**about, "storages": combined(former["storages"], found)}
    target.write_text(json.dumps(report, indent=2) + "\n")
    return draw(target)


def draw(figures: Path) -> int:
    """Draw the chart next to its figures; returns the exit status."""
    try:
        contenders.install()
        python, chart = contenders.VENV / "bin" / "python", Path(__file__).with_name("stream_chart.py")
        run_quietly([str(python), str(chart), str(figures), str(figures.with_suffix(".png"))], 300)
    except CommandFailed as error:
        print(f"no picture: {error}", file=sys.stderr)
        return 1
    return 0


def combined(former: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the merged results: new measurements replace earlier ones."""
    by_storage = {each["storage"]: dict(each) for each in former}
    for each in found:
        kept = by_storage.setdefault(each["storage"], dict(each))
        kept.update({name: value for name, value in each.items() if value})
    return list(by_storage.values())


@contextmanager
def servers(directory: Path) -> Iterator[dict[str, str]]:
    """Run Postgres and an S3 server of our own; yield the services' variables."""
    run = [sys.executable, "-m", "devstack"]
    subprocess.run(
        [*run, "up", "--servers-only", "--dir", str(directory)], cwd=REPOSITORY, check=True, env=os.environ
    )
    try:
        yield read_env_file(directory / "env")
    finally:
        subprocess.run([*run, "down", "--dir", str(directory)], cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
