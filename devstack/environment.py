"""The variables of the services: the stack's own values, overridden by those given to `up`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ConfigurationError
from shared.settings import Settings, check_settings
from shared.settings.s3_defaults import s3_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devstack.state import StackDir, State

BUCKET = "videos"
ENV_FILE_NAMES = (
    "INGEST_URL",
    "STREAMER_URL",
    "RABBITMQ_URL",
    "DATABASE_URL",
    "S3_ENDPOINT_URL",
    "S3_REGION",
    "S3_BUCKET",
    "S3_ACCESS_KEY_ID",
    "S3_SECRET_ACCESS_KEY",
    "WORK_DIR",
    "WORK",
    "S3_WORK_BUCKET",
    "S3_WORK_PREFIX",
    "STORAGE_TYPE",
    "DELETE_LOCAL_AFTER_S3",
    "PROMETHEUS_URL",
    "ADMIN_API_KEY",
)
# Each service has its own port; SSL_CERT_FILE is read by OpenSSL, the second by failpoints.
OF_STACK = {"TRANSCODERS", "MONITORING"}
OTHERS = {"SSL_CERT_FILE", "CRASH_POINTS_DIR"} | OF_STACK
GIVABLE = frozenset({name.upper() for name in Settings.model_fields} - {"HTTP_PORT"} | OTHERS)


class VariableError(ValueError):
    """A variable given to `up` is invalid; the message names it."""


def own_values(directory: StackDir, state: State) -> dict[str, str]:
    """Return the stack's own values, without given variables."""
    ports, secrets = state.ports, state.secrets
    provider = state.given.get("S3_PROVIDER", "generic")
    values = {
        "WORK_DIR": str(directory.work),
        "STORAGE_TYPE": "s3",
        "S3_PROVIDER": "generic",
        "S3_REGION": str(s3_defaults({"s3_provider": provider}).get("s3_region", "")),
        "S3_ADDRESSING_STYLE": "path",
        "S3_BUCKET": BUCKET,
        "S3_ACCESS_KEY_ID": secrets["s3_access_key"],
        "S3_SECRET_ACCESS_KEY": secrets["s3_secret_key"],
        "HTTP_HOST": "127.0.0.1",
        "LOG_FORMAT": "json",
    }
    urls = {
        "DATABASE_URL": ("postgres", f"postgresql://vod:{secrets['postgres']}@127.0.0.1:%d/postgres"),
        "RABBITMQ_URL": ("rabbitmq", f"amqp://vod:{secrets['rabbitmq']}@127.0.0.1:%d/"),
        "S3_ENDPOINT_URL": ("seaweedfs-s3", "http://127.0.0.1:%d"),
        "PUBLIC_STREAM_URL": ("streamer", "http://127.0.0.1:%d"),
    }
    if has_edge(state):
        urls["PUBLIC_STREAM_URL"] = ("edge", "http://127.0.0.1:%d")
        values["TRUSTED_PROXIES"] = "127.0.0.1"
    return values | {name: url % ports[port] for name, (port, url) in urls.items() if port in ports}


def has_edge(state: State) -> bool:
    """Tell whether nginx runs in front of the streamer."""
    return bool(state.given.get("EDGE"))


def has_monitoring(state: State) -> bool:
    """Tell whether Prometheus watches the services."""
    return bool(state.given.get("MONITORING"))


def optional_programs(given: Mapping[str, str]) -> list[str]:
    """Return the optional programs that these variables need."""
    needed = {"nginx": "EDGE", "prometheus": "MONITORING"}
    return [program for program, variable in needed.items() if given.get(variable)]


def check_given(values: Mapping[str, str]) -> None:
    """Raise VariableError naming each variable with which no service would start."""
    servers = {  # whose ports are not known yet
        "DATABASE_URL": "postgresql://localhost/",
        "RABBITMQ_URL": "amqp://localhost/",
        "S3_ENDPOINT_URL": "http://localhost/",
    }
    known = {name.lower(): value for name, value in {**servers, **values}.items() if value}
    try:
        check_settings({name: value for name, value in known.items() if name in Settings.model_fields})
    except ConfigurationError as error:
        raise VariableError(str(error)) from None


def remember_given(
    given: Mapping[str, str], environ: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """Return the effective given variables: the remembered ones, overridden by those of this call.

    An empty value, or the stack's own value (as after sourcing `.stack/env`), removes a variable.
    """
    now = {name: environ[name] for name in GIVABLE & environ.keys()}
    if now.get("WORK_DIR"):
        now["WORK_DIR"] = str(Path(now["WORK_DIR"]).resolve())
    merged = {**given, **now}
    return {name: value for name, value in sorted(merged.items()) if value and value != own.get(name)}


def service_values(directory: StackDir, state: State) -> dict[str, str]:
    """Return the services' variables: own values overridden by given ones."""
    return own_values(directory, state) | {k: v for k, v in state.given.items() if k not in OF_STACK}


def transcoder_count(state: State) -> int:
    """Return how many transcoders to run. Raises VariableError when TRANSCODERS is not a number."""
    given = state.given.get("TRANSCODERS", "1")
    if not given.isdecimal():
        raise VariableError(f"TRANSCODERS must be a number, not {given!r}")
    return int(given)


def env_file(values: Mapping[str, str]) -> str:
    """Render `.stack/env`: one NAME=value per line, quoted for a shell."""
    return "".join(f"{name}={shlex.quote(values[name])}\n" for name in ENV_FILE_NAMES if name in values)


def read_env_file(path: Path) -> dict[str, str]:
    """Parse `.stack/env`; empty when it does not exist."""
    if not path.exists():
        return {}
    text = path.read_text()
    try:
        words = shlex.split(text)
    except ValueError:  # an old file without quotes
        words = text.splitlines()
    return dict(word.split("=", 1) for word in words if "=" in word)
