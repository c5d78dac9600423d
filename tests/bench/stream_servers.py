"""What `make bench-stream` compares: our streamer as it was and is, with the edge, and bare nginx."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil
from aiohttp.test_utils import unused_port

from devstack.edge import command, configuration
from devstack.programs import NGINX, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_SECONDS: Final = 30.0
COMMON: Final = """\
worker_processes {workers};
daemon off;
pid "{home}/nginx.pid";
error_log stderr error;
user root;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
    client_body_temp_path "{home}/body"; proxy_temp_path "{home}/proxy";
    fastcgi_temp_path "{home}/fastcgi"; uwsgi_temp_path "{home}/uwsgi"; scgi_temp_path "{home}/scgi";
    types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
    sendfile on; keepalive_requests 1000000;
    open_file_cache max=10000 inactive=60s;
{rest}
}}
"""
COUNTER: Final = """\
    log_format keys '$request_method $uri $http_range';
    upstream s3 {{ server {server}; keepalive 256; }}
    server {{
        listen 127.0.0.1:{port};
        access_log "{home}/requests.log" keys;
        client_max_body_size 0; proxy_request_buffering off; proxy_buffering off;
        location / {{
            proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
            proxy_pass http://s3;
        }}
    }}
"""
# The edge's log and additional headers, for the bare nginx as well.
ALIKE: Final = """\
    log_format alike escape=json
        '{{"time":"$time_iso8601","method":"$request_method","path":"$uri","status":$status,'
        '"bytes":$body_bytes_sent,"seconds":$request_time,"cache":"$upstream_cache_status",'
        '"upstreamStatus":"$upstream_status","requestId":"$request_id"}}';
    access_log "{home}/access.log" alike buffer=32k flush=1s;
    add_header X-Request-Id $request_id;
    add_header X-Content-Type-Options nosniff;
    add_header Access-Control-Allow-Origin *;
    add_header Access-Control-Expose-Headers "Content-Length, Content-Range, ETag";
    add_header Timing-Allow-Origin *;
"""
FILES: Final = (
    "    server {{ listen 127.0.0.1:{port}; root \"{media}\"; add_header Cache-Control 'max-age=60'; }}\n"
)
CACHE: Final = """\
    proxy_cache_path "{home}/cache" levels=1:2 keys_zone=bare:16m max_size=4g inactive=1d use_temp_path=off;
    upstream s3 {{ server {server}; keepalive 64; }}
    map $uri $signed {{
{urls}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://s3$signed; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host {server};
            proxy_cache bare; proxy_cache_key $uri; proxy_cache_valid 200 1d; proxy_cache_lock on;
            proxy_cache_lock_timeout 30s; proxy_cache_use_stale updating error timeout;
            proxy_cache_background_update on;
        }}
    }}
"""


@dataclass
class Server:
    """A running contender: its base URL, and the processes that are counted for it."""

    url: str
    roots: list[subprocess.Popen[bytes]]

    def _family(self) -> list[psutil.Process]:
        found = []
        for root in self.roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(root.pid)
                found += [process, *process.children(recursive=True)]
        return found

    def cpu_seconds(self) -> float:
        """Return user and system time of all processes so far."""
        total = 0.0
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory_bytes(self) -> int:
        """Return the sum of proportional set sizes: shared pages count once."""
        total = 0
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total


@contextlib.contextmanager
def process(
    argv: Sequence[str], home: Path, port: int, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; its output goes to a file in `home`."""
    cwd = (env or {}).get("BENCH_CWD", str(REPOSITORY))
    with (home / "output").open("ab") as out:
        run = subprocess.Popen(argv, cwd=cwd, env={**os.environ, **(env or {})}, stdout=out, stderr=out)
    try:
        _wait(port, run, home / "output")
        yield run
    finally:
        run.terminate()
        try:
            run.wait(20)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()


def _wait(port: int, run: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if run.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{run.args} does not listen:\n{output.read_text()[-3000:]}")


@contextlib.contextmanager
def nginx(home: Path, port: int, rest: str, *, workers: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Run a plain nginx with the given servers."""
    home.mkdir(parents=True)
    if "access_log" not in rest:
        rest = f'    access_log "{home}/access.log" combined buffer=32k flush=1s;\n{rest}'
    (home / "nginx.conf").write_text(COMMON.format(home=home, workers=workers, rest=rest))
    with process(
        (str(NGINX), "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"), home, port
    ) as run:
        yield run


class StorageRequests:
    """A proxy in front of the S3 server that writes down every request."""

    def __init__(self, home: Path, server: str) -> None:
        self._home, self._server, self.port = home, server, unused_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[StorageRequests]:
        """Run the proxy during the block."""
        rest = COUNTER.format(server=self._server, port=self.port, home=self._home)
        with nginx(self._home, self.port, rest):
            yield self

    def counts(self) -> Counter[str]:
        """Return how many requests there were so far by method and key."""
        time.sleep(0.1)
        log = self._home / "requests.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return Counter(" ".join(line.split()[:2]) for line in lines)


@contextlib.contextmanager
def streamer(
    home: Path, values: Mapping[str, str], *, tree: Path = REPOSITORY, edge: bool = False
) -> Iterator[Server]:
    """Run our streamer from a tree of the code, with the edge in front if `edge`."""
    home.mkdir(parents=True)
    port = unused_port()
    own = {
        "HTTP_PORT": str(port),
        "HTTP_HOST": "127.0.0.1",
        "BENCH_CWD": str(tree),
        "STREAMER_PROCESSES": "1",
    }
    if edge:
        own |= {"EDGE": "nginx", "TRUSTED_PROXIES": "127.0.0.1"}
    with process((sys.executable, "-m", "services.streamer"), home, port, {**values, **own}) as run:
        if not edge:
            yield Server(f"http://127.0.0.1:{port}", [run])
            return
        with _edge(home / "edge", values, port) as (url, front):
            yield Server(url, [run, front])


@contextlib.contextmanager
def _edge(
    home: Path, values: Mapping[str, str], streamer: int
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = unused_port()
    home.mkdir()
    for file in configuration(home, values, edge=port, streamer=streamer):
        text = file.text.replace("worker_processes 2", "worker_processes 1")  # as the bare one
        text = text.replace("worker_connections 8192", "worker_connections 16384")
        file.path.write_text(text)
    with process(command(home), home, port) as run:
        yield f"http://127.0.0.1:{port}", run


@contextlib.contextmanager
def bare(
    home: Path, values: Mapping[str, str], s3: str, urls: Mapping[str, str], *, alike: bool = False
) -> Iterator[Server]:
    """Run bare nginx: files by sendfile, or proxy_cache before the same S3 with `urls`, signed by path.

    `alike`: with the log and the headers of the edge.
    """
    port = unused_port()
    if values["STORAGE_TYPE"] == "local":
        rest = FILES.format(port=port, media=f"{values['WORK_DIR']}/media")
    else:
        lines = "\n".join(f'        "{path}" "{url}";' for path, url in urls.items())
        rest = "    map_hash_bucket_size 1024;\n" + CACHE.format(home=home, server=s3, urls=lines, port=port)
    with nginx(home, port, (ALIKE.format(home=home) if alike else "") + rest) as run:
        yield Server(f"http://127.0.0.1:{port}", [run])


def fetch(url: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and body."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, answer.headers, answer.read()
