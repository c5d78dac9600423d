"""Run the whole system on this machine without Docker: `python -m devstack up`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from devstack.admin_key import KeyCreationError
from devstack.console import complain, say, show_table
from devstack.demo import DemoError, run_demo
from devstack.environment import VariableError, optional_programs
from devstack.install import install_missing
from devstack.install_player import install_player
from devstack.programs import OPTIONAL, REPOSITORY, MissingProgramError
from devstack.stack import Stack, StackError
from devstack.state import StackDir

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devstack.stack import PartStatus

UP_HELP = """\
Starts what is not running and leaves the rest alone.

Variables of the services (STORAGE_TYPE, HLS_SEGMENT_SECONDS, ...) given in the environment reach them.
TRANSCODERS is the number of transcoders, MONITORING=1 starts Prometheus. All are remembered until `down`: a
later `up` without them keeps them, an empty value forgets one, and services whose variables change are
restarted. When DATABASE_URL, RABBITMQ_URL or S3_ENDPOINT_URL is given, that server is used."""


def main() -> int:
    """Run the command given on the command line; return the exit status."""
    options = _parser().parse_args()
    try:
        asyncio.run(_until_terminated(COMMANDS[options.command], options))
    except (MissingProgramError, StackError, KeyCreationError, DemoError, VariableError) as error:
        complain(str(error))
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain("interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    default = Path(os.environ.get("STACK_DIR") or REPOSITORY / ".stack")
    common.add_argument(
        "--dir", type=Path, default=default, help="directory of the stack (default: %(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        return commands.add_parser(name, help=text, parents=[common], epilog=epilog, formatter_class=raw)

    up = add("up", "start the system in the background", UP_HELP)
    up.add_argument("--servers-only", action="store_true", help="RabbitMQ, Postgres and S3, no services")
    down = add("down", "stop the system")
    down.add_argument("--wipe", action="store_true", help="remove all data too")
    add("status", "show the state of each part")
    demo = add("demo", "convert a clip and prove that it plays")
    demo.add_argument("clip", nargs="?", type=_file, help="a video file (default: one is made)")
    add("install", "install the system packages that are missing")
    return parser


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path


async def _until_terminated(
    command: Callable[[argparse.Namespace], Awaitable[None]], options: argparse.Namespace
) -> None:
    """Run `command`; SIGTERM stops it cleanly, as Ctrl-C does."""
    task = asyncio.ensure_future(command(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


def _stack(options: argparse.Namespace) -> Stack:
    return Stack(StackDir(options.dir.resolve()))


async def _up(options: argparse.Namespace) -> None:
    began = time.monotonic()
    stack = _stack(options)
    install_missing(optional_programs({**stack.state.given, **os.environ}))
    if not options.servers_only:
        install_player()
    values = await stack.up(os.environ, servers_only=options.servers_only)
    say(f"ready after {time.monotonic() - began:.1f} s; the addresses are in {stack.directory.env}")
    for name in ("INGEST_URL", "STREAMER_URL", "PROMETHEUS_URL"):
        if name in values:
            say(f"  {name}={values[name]}")


async def _down(options: argparse.Namespace) -> None:
    await _stack(options).down(wipe=options.wipe)


async def _status(options: argparse.Namespace) -> None:
    stack = _stack(options)
    if not (parts := await stack.status()):
        say("nothing is running; start it with `make up`")
        return
    rows = [_row(part, stack.directory) for part in parts]
    show_table(str(stack.directory.root), ("part", "state", "pid", "port", "uptime", "log"), rows)


def _row(part: PartStatus, directory: StackDir) -> tuple[str, ...]:
    uptime = ""
    with suppress(psutil.NoSuchProcess):
        seconds = int(time.time() - psutil.Process(part.running.pid).create_time())
        uptime = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    ports = " ".join(map(str, part.ports))
    return part.name, part.state, str(part.running.pid), ports, uptime, str(directory.log(part.name))


async def _demo(options: argparse.Namespace) -> None:
    install_missing()
    install_player()
    await run_demo(_stack(options), os.environ, options.clip)


async def _install(_: argparse.Namespace) -> None:
    install_missing(OPTIONAL)
    install_player()


COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[None]]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "demo": _demo,
    "install": _install,
}

if __name__ == "__main__":
    sys.exit(main())
