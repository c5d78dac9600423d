"""Starts and stops a stack: starts what is not running, waits until it answers, stops everything."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devstack.admin_key import admin_key
from devstack.console import say
from devstack.edge import EDGE, edge_parts
from devstack.environment import (
    check_given,
    env_file,
    has_edge,
    has_monitoring,
    own_values,
    read_env_file,
    remember_given,
    service_values,
    transcoder_count,
)
from devstack.launch import PartError, launch, stays_up, wait_until_ready
from devstack.monitoring import PROMETHEUS_PART, monitoring_parts
from devstack.parts import FIRST, SERVERS, SERVICES, service_names, service_parts
from devstack.ports import hold_ports
from devstack.processes import is_alive, stop, stop_all
from devstack.programs import find_programs
from devstack.readiness import reason_not_ready
from devstack.servers import PORTS, REPLACED_BY, server_names, server_parts
from devstack.state import write_atomically

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from devstack.parts import Part
    from devstack.programs import Programs
    from devstack.state import Running, StackDir


class StackError(Exception):
    """Parts did not start; the message names each with the end of its log."""


@dataclass(frozen=True)
class PartStatus:
    """One row of `status`."""

    name: str
    state: str
    running: Running
    ports: tuple[int, ...]


class Stack:
    """One stack directory and its processes."""

    def __init__(self, directory: StackDir) -> None:
        self.directory = directory
        self.state = directory.load()

    async def up(self, environ: Mapping[str, str], *, servers_only: bool = False) -> dict[str, str]:
        """Start what is not running and return the values of `.stack/env`. Raises StackError."""
        with self.directory.locked():
            self.state = self.directory.load()
            self._take_given(environ)
            programs = find_programs(self.directory.root)
            stages = (FIRST, SERVERS) if servers_only else (FIRST, SERVERS, SERVICES)
            await self._start_parts(programs, stages)
            values = await self._values(programs, servers_only=servers_only)
            write_atomically(self.directory.env, env_file(values))
            return values

    async def down(self, *, wipe: bool = False) -> None:
        """Stop everything, services first; idempotent."""
        if not self.directory.root.exists():
            return
        with self.directory.locked():
            self.state = self.directory.load()
            for stage in (SERVICES, SERVERS, FIRST):
                await self._stop(name for name, each in self.state.running.items() if each.stage == stage)
            self.state.given = {}
            self.directory.save(self.state)
            if wipe:
                shutil.rmtree(self.directory.root)

    async def status(self) -> list[PartStatus]:
        """Return the state of every started part."""
        self.state = self.directory.load()
        if not self.state.running:
            return []
        parts = {part.name: part for part in self._parts(find_programs(self.directory.root))}
        known = [(parts[name], each) for name, each in self.state.running.items() if name in parts]
        states = await asyncio.gather(*(_state(part, each) for part, each in known))
        return [
            PartStatus(part.name, state, each, tuple(self.state.ports[port] for port in part.ports))
            for (part, each), state in zip(known, states, strict=True)
        ]

    @property
    def is_running(self) -> bool:
        """Tell whether any part of the stack is alive."""
        return any(map(is_alive, self.directory.load().running.values()))

    def _take_given(self, environ: Mapping[str, str]) -> None:
        own = own_values(self.directory, self.state)
        given = remember_given(self.state.given, environ, own)
        check_given({**own, **given})
        self.state.given = given
        Path(self.state.given.get("WORK_DIR", own["WORK_DIR"])).mkdir(parents=True, exist_ok=True)
        for name in sorted({*REPLACED_BY.values()} & self.state.given.keys()):
            say(f"{name} was given: its private server is not started")

    def _parts(self, programs: Programs) -> list[Part]:
        servers = server_parts(self.directory, self.state, programs)
        services = service_parts(self.directory, self.state, programs)
        edge = edge_parts(self.directory, self.state)
        return [*servers, *services, *edge, *monitoring_parts(self.directory, self.state)]

    def _port_names(self) -> list[str]:
        """Return the names of ports needed by parts that are not running."""
        wanted = {name: PORTS[name] for name in server_names(self.state)}
        wanted |= {name: (name,) for name in service_names(transcoder_count(self.state))}
        wanted |= {EDGE: (EDGE,)} if has_edge(self.state) else {}
        wanted |= {PROMETHEUS_PART: (PROMETHEUS_PART,)} if has_monitoring(self.state) else {}
        return [port for name, ports in wanted.items() if not self._runs(name) for port in ports]

    def _runs(self, name: str) -> bool:
        running = self.state.running.get(name)
        return running is not None and is_alive(running)

    async def _start_parts(self, programs: Programs, stages: tuple[int, ...]) -> None:
        with hold_ports(self._port_names(), self.state.ports) as ports:
            self.state.ports |= ports
            parts = self._parts(programs)
            await self._stop(self.state.running.keys() - {part.name for part in parts})
            for stage in stages:
                await _all_or_error(self._ensure(part) for part in parts if part.stage == stage)

    async def _stop(self, names: Iterable[str]) -> None:
        names = list(names)
        if alive := [name for name in names if self._runs(name)]:
            say(f"stopping {', '.join(alive)}")
        await stop_all(self.state.running[name] for name in names)
        for name in names:
            del self.state.running[name]
        self.directory.save(self.state)

    async def _ensure(self, part: Part) -> None:
        """Keep a part that runs as defined, else (re)start it; return when it is ready."""
        running, log = self.state.running.get(part.name), self.directory.log(part.name)
        if running and running.fingerprint == part.fingerprint and await stays_up(part, running, log):
            return
        if running:
            await stop(running)  # also the children of a dead one
        began = time.monotonic()
        started = self.state.running[part.name] = await launch(part, log)
        self.directory.save(self.state)
        await wait_until_ready(part, started, log)
        say(f"{'restarted' if running else 'started'} {part.name} in {time.monotonic() - began:.1f} s")

    async def _values(self, programs: Programs, *, servers_only: bool) -> dict[str, str]:
        known = read_env_file(self.directory.env)
        values = {**known, **service_values(self.directory, self.state)}
        values.pop("PROMETHEUS_URL", None)
        if servers_only:
            return values
        ports = self.state.ports
        values["INGEST_URL"] = f"http://127.0.0.1:{ports['ingest']}"
        values["STREAMER_URL"] = f"http://127.0.0.1:{ports['edge' if has_edge(self.state) else 'streamer']}"
        if has_monitoring(self.state):
            values["PROMETHEUS_URL"] = f"http://127.0.0.1:{ports[PROMETHEUS_PART]}"
        values["ADMIN_API_KEY"] = await admin_key(values, programs.python)
        return values


async def _all_or_error(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for every task until one fails. Raises StackError."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except ExceptionGroup as group_error:  # not except*: an error raised there would be wrapped in a group
        failed, others = group_error.split(PartError)
        if failed is None or others is not None:
            raise
        raise StackError("\n".join(map(str, failed.exceptions))) from None


async def _state(part: Part, running: Running) -> str:
    if not is_alive(running):
        return "died"
    reason = await reason_not_ready(part.answers)
    return f"not ready: {reason}" if reason else "ready"
