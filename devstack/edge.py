"""The edge as a part: Debian's nginx in front of the streamer, by the rules in deploy/edge (EDGE=nginx)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from devstack.environment import has_edge, service_values
from devstack.parts import SERVICES, File, Part
from devstack.programs import NGINX, REPOSITORY, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devstack.state import StackDir, State

EDGE = "edge"
RULES = REPOSITORY / "deploy" / "edge"
SHARED_RULES = ("http.conf", "server.conf", "proxy.conf", "cached.conf", "patience.conf", "headers.conf")
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
CACHES = {"segments": "max_size=2g inactive=7d", "lists": "inactive=2h", "admissions": "inactive=2h"}
MAIN = """\
worker_processes 2;
pcre_jit on;
daemon off;
pid "{home}/nginx.pid";
error_log stderr error;
{user}events {{
    worker_connections 8192;
}}
http {{
{places}
    upstream streamer {{
        server 127.0.0.1:{streamer};
        keepalive 64;
    }}
    map "" $edge_media {{
        default "{media}";
    }}
    map $http_origin $edge_credentials {{
        default "";
{origins}    }}
    include http.conf;
    server {{
        listen 127.0.0.1:{edge};
        include server.conf;
    }}
}}
"""


def edge_parts(directory: StackDir, state: State) -> list[Part]:
    """Define the edge if one was requested. Raises MissingProgramError without nginx."""
    if not has_edge(state):
        return []
    if not NGINX.exists():
        raise MissingProgramError("EDGE=nginx needs nginx: run `python -m devstack install`")
    home, port = directory.root / EDGE, state.ports[EDGE]
    values = service_values(directory, state)
    part = Part(
        name=EDGE,
        stage=SERVICES,
        argv=command(home),
        cwd=home,
        files=configuration(home, values, edge=port, streamer=state.ports["streamer"]),
        answers=f"http://127.0.0.1:{port}/readyz",
        ports=(EDGE,),
    )
    return [part]


def command(home: Path) -> tuple[str, ...]:
    """Return the command line that runs nginx with its files in `home`."""
    return (str(NGINX), "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr")


def configuration(home: Path, values: Mapping[str, str], *, edge: int, streamer: int) -> tuple[File, ...]:
    """Return nginx's files for services with these variables: the rules, and the main file."""
    rules = {name: name for name in SHARED_RULES}
    rules["segments.conf"] = f"segments-{values['STORAGE_TYPE']}.conf"
    rules["segments-s3.conf"] = "segments-s3.conf"
    files = [File(home / name, (RULES / source).read_text()) for name, source in rules.items()]
    return (*files, File(home / "nginx.conf", _main_file(home, values, edge, streamer)))


def _main_file(home: Path, values: Mapping[str, str], edge: int, streamer: int) -> str:
    places = [f'    {name}_temp_path "{home}/{name}";' for name in TEMPORARY]
    for name, limits in CACHES.items():
        cache = f'"{home}/cache-{name}" levels=1:2 keys_zone=edge_{name}:8m {limits}'
        places.append(f"    proxy_cache_path {cache} use_temp_path=off;")
    origins = [origin.strip() for origin in values.get("CORS_ORIGINS", "").split(",")]
    return MAIN.format(
        home=home,
        places="\n".join(places),
        user="user root;\n" if os.geteuid() == 0 else "",  # as the services: it reads their files
        media=f"{values['WORK_DIR']}/media",
        origins="".join(f'        "{origin}" true;\n' for origin in origins if origin),
        edge=edge,
        streamer=streamer,
    )
