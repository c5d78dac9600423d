"""Commands for operators (`python -m services.uploader fsck`), with the services' environment."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.uploader.fsck.check import Findings, Fsck
from services.uploader.importing.import_video import Importer, ImportRequest
from services.uploader.maintenance.find_orphans import KINDS, OrphanFinder
from services.uploader.maintenance.identify_storages import identify_storages
from services.uploader.maintenance.identity import claim
from services.uploader.maintenance.sweep_orphans import CLAIM, Sweeper
from services.uploader.moving import cli as moving
from services.uploader.moving.mover import Mover
from services.uploader.retention import Retention
from services.uploader.settings import MigrationSettings, UploaderSettings
from shared.database.migrate import migrate
from shared.database.pool import open_database
from shared.errors import ConfigurationError, PipelineError, Refused
from shared.messaging.outbox import Outbox
from shared.names import DEFAULT_STORAGE
from shared.playback.urls import PlaybackUrls
from shared.service.workspace import open_workspace
from shared.settings import load_settings
from shared.startup import wait_until_available
from shared.storage import open_storages
from shared.storage.doctor import diagnose
from shared.storage.placement import StorageRules
from shared.workspace.layout import WorkDir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.uploader.maintenance.find_orphans import Orphan
    from services.uploader.maintenance.identify_storages import IdentifiedStorages
    from shared.database.pool import Database
    from shared.storage import Storages

BAR = 24
MOVER_CONNECTIONS = 8  # one of them for its lock
FOUND, COULD_NOT_RUN, INTERRUPTED = 1, 2, 130


def run_command(arguments: Sequence[str], default_port: int) -> int:
    """Run a command; return its exit code: 2 when it could not finish, with the reason on standard error.

    fsck returns 1 when it found anything.
    """
    given = _parse(arguments)
    structlog.configure(  # standard output is for the report only
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )
    try:
        if given.command == "migrate":
            return asyncio.run(_migrate(load_settings(MigrationSettings, default_port)))
        settings = load_settings(UploaderSettings, default_port)
        if given.command == "storage":
            return asyncio.run(_storage(settings, given))
        if given.command == "sweep":
            return asyncio.run(_sweep(settings, remove=given.remove))
        return asyncio.run(_check(settings, given))
    except (PipelineError, ConfigurationError, OSError) as error:
        sys.stderr.write(f"{given.command}: {error}\n")
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        sys.stderr.write(f"{given.command}: interrupted\n")
        return INTERRUPTED


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.uploader", description="Without a command: run the service."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", help="migrate the database schema, as every service does at start")
    sweep = commands.add_parser("sweep", help="find files and objects without an owner")
    sweep.add_argument("--remove", action="store_true", help="remove them instead of only listing them")
    fsck = commands.add_parser("fsck", help="compare the records with the storage in both directions")
    fsck.add_argument("--repair", action="store_true", help="make missing objects again")
    fsck.add_argument("--force", action="store_true", help="repair even if most videos are damaged")
    fsck.add_argument("--json", action="store_true", help="report as JSON")
    storage = commands.add_parser("storage", help="identity and ownership of the storage and the work volume")
    actions = storage.add_subparsers(dest="action", required=True)
    actions.add_parser("show", help="show their identities, and whether they are ours")
    actions.add_parser("claim", help="record that both are ours: no other system uses them")
    moving.add_arguments(actions)
    taken = actions.add_parser("import", help="create a video from an HLS tree in a storage")
    taken.add_argument("key", help="key of its multivariant playlist")
    taken.add_argument("--user", required=True, help="owner of the video")
    taken.add_argument("--storage", default=DEFAULT_STORAGE, help="name of the storage with the tree")
    taken.add_argument("--title")
    taken.add_argument("--visibility", choices=("public", "private"), default="public")
    taken.add_argument("--frame-rate", type=float, help="if the playlist does not state it")
    doctor = actions.add_parser("doctor", help="diagnose the configured storage")
    doctor.add_argument("--json", action="store_true", help="report as JSON")
    doctor.add_argument("--origin", action="append", default=[], help="a site that embeds players, for CORS")
    doctor.add_argument(
        "--storage", default=DEFAULT_STORAGE, help="a named storage instead of the default one"
    )
    doctor.add_argument("--fix-cors", action="store_true", help="write CORS rules into the public bucket")
    return parser.parse_args(arguments)


async def _migrate(settings: MigrationSettings) -> int:
    url = settings.database_url.get_secret_value()
    await wait_until_available(lambda: migrate(url))
    return 0


@asynccontextmanager
async def _identified(
    settings: UploaderSettings, *, connections: int = 2
) -> AsyncIterator[IdentifiedStorages]:
    """Yield all storages, identified. Raises StorageUnavailable when one does not answer."""
    url = settings.database_url.get_secret_value()
    async with (
        open_database(url, connections=connections) as database,
        open_storages(settings) as storages,
        open_workspace(settings) as work,
    ):
        for storage in storages:
            await storage.check()
        expected = {name: each.storage_id for name, each in settings.by_storage.items()}
        yield await identify_storages(database, storages, work, expected)


async def _import(
    settings: UploaderSettings, given: argparse.Namespace, identified: IdentifiedStorages
) -> int:
    wanted = ImportRequest(given.key, given.user, given.title, given.visibility, given.frame_rate)
    importer = Importer(
        Outbox(identified.database, "/uploader"),
        identified.storages.named(given.storage),
        PlaybackUrls.of(settings),
        StorageRules(settings.by_storage),
        identified.work.scratch.uploads / "import.part",
    )
    sys.stdout.write(f"{await importer.run(wanted)}\n")
    return 0


def mover_of(settings: UploaderSettings, database: Database, storages: Storages) -> Mover:
    """Return the mover of videos between the storages."""
    return Mover(
        *(database, storages, WorkDir(settings.work_dir.resolve())),
        urls=PlaybackUrls.of(settings),
        rules=StorageRules(settings.by_storage),
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.move_grace_seconds,
    )


def _finder(settings: UploaderSettings, identified: IdentifiedStorages) -> OrphanFinder:
    return OrphanFinder(
        identified.database,
        identified.work,
        identified.storages.default,
        Retention(settings.delete_local_after_s3),
        settings.sweep_age_seconds,
    )


async def _storage(settings: UploaderSettings, given: argparse.Namespace) -> int:
    if given.action == "doctor":
        return await _doctor(settings, given)
    async with _identified(settings, connections=MOVER_CONNECTIONS) as identified:
        if given.action == "moves":
            return await moving.show(identified.database)
        if given.action == "import":
            return await _import(settings, given, identified)
        if given.action == "move":
            return await moving.move(mover_of(settings, identified.database, identified.storages), given)
        for label, place, identity in identified.places:
            if given.action == "claim":
                await claim(identified.database, place, identity)
            is_ours = given.action == "claim" or identity.is_ours
            sys.stdout.write(f"{label:<12}{identity.storage_id}  {'ours' if is_ours else 'not ours'}\n")
    return 0


async def _doctor(settings: UploaderSettings, given: argparse.Namespace) -> int:
    StorageRules(settings.by_storage).expect_known(given.storage)
    examined = settings.by_storage[given.storage]
    report = await diagnose(examined, origins=given.origin, fixes_cors=given.fix_cors)
    sys.stdout.write(json.dumps(report.to_json(), indent=2) + "\n" if given.json else report.to_text())
    return 0 if report.is_healthy else FOUND


async def _sweep(settings: UploaderSettings, *, remove: bool) -> int:
    async with _identified(settings) as identified:
        owns_volume = identified.of_volume.is_ours
        sweeper = Sweeper(_finder(settings, identified), lambda: identified.swept, owns_volume)
        if remove and not sweeper.owns_all:
            raise Refused(CLAIM)
        found = await sweeper.sweep(remove=remove)
    if found is None:
        raise PipelineError("another sweep is in progress")
    for orphan in found:
        sys.stdout.write(f"{orphan.kind:<12}{orphan.bytes:>14}  {orphan.name}\n")
    sys.stdout.write(_summary(found, "removed" if remove else "found"))
    return 0


def _summary(found: Sequence[Orphan], done: str) -> str:
    counts = {kind: sum(orphan.kind == kind for orphan in found) for kind in KINDS}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "nothing"
    return f"{done}: {told}; {sum(orphan.bytes for orphan in found)} bytes\n"


async def _check(settings: UploaderSettings, given: argparse.Namespace) -> int:
    findings = Findings()
    async with _identified(settings) as identified:
        outbox = Outbox(identified.database, "/uploader")
        fsck = Fsck(outbox, _finder(settings, identified), identified.storages)
        try:
            await fsck.check(findings, partial(_progress, "checked"))
            if given.repair:
                await _repair(fsck, findings, force=given.force)
        finally:  # report findings and started repairs even if an outage ends the check
            if sys.stderr.isatty():
                sys.stderr.write("\n")
            report = json.dumps(findings.to_json(), indent=2) + "\n" if given.json else _table(findings)
            sys.stdout.write(report)
    return 0 if findings.is_clean else FOUND


async def _repair(fsck: Fsck, findings: Findings, *, force: bool) -> None:
    if findings.is_suspicious and not force:
        raise Refused(
            f"{len(findings.damaged)} of {findings.stored} stored videos are damaged: is this the right "
            "storage for these records? Nothing was repaired; --force repairs all of them"
        )
    await fsck.repair(findings, partial(_progress, "repaired"))


def _progress(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        share = done / max(total, done, 1)
        sys.stderr.write(f"\r[{'#' * round(share * BAR):.<{BAR}}] {done}/{total} videos {what} ")


def _table(findings: Findings) -> str:
    lines = []
    for damage in findings.damaged:
        for fault in damage.faults:
            found = "" if fault.found is None else f", {fault.found} found"
            lines.append(f"{fault.kind:<12}{fault.key}  {fault.expected.bytes} bytes{found}")
        if damage.repair:
            done = ", ".join(repair.replace("_", " ") for repair in damage.repair)
            lines.append(f"{'':<12}{damage.video.video_id}  {done}")
    lines += [f"{'unreadable':<12}{video_id}  {why}" for video_id, why in findings.unreadable.items()]
    lines += [f"{'no record':<12}{each.name}  {each.bytes} bytes" for each in findings.unowned]
    return "\n".join([*lines, findings.summary()]) + "\n"
