"""The architecture of docs/layers.md: each rule holds, and finds a deliberate breach."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

from tests.unit.module_state import (
    imported,
    memoised,
    reads_at_import,
    reads_of_environment,
    writes_to_modules,
)
from tests.unit.service_settings import SERVICES, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPO = Path(__file__).parents[2]
PACKAGES = ("services", "shared", "devstack", "tools")
BREACHES = {
    "services": ("services/streamer/catalog.py", "from services.ingest import records"),
    "shared-below-services": ("shared/names.py", "from services.streamer import single_flight_cache"),
    "shared": ("shared/names.py", "from shared.storage import memory"),
    "transcoder": ("services/transcoder/codecs/h264_levels.py", "from services.transcoder.plan import model"),
    "ingest": ("services/ingest/uploads/accept.py", "from services.ingest.http import routes"),
    "uploader": ("services/uploader/maintenance/orphan_rules.py", "from services.uploader.fsck import check"),
    "streamer": ("services/streamer/byte_ranges.py", "from services.streamer import routes"),
    "pure": ("shared/hls/playlists.py", "import asyncio"),
    "postgres": ("shared/videos/record.py", "import asyncpg"),
    "rabbitmq": ("services/uploader/handlers/delete_video.py", "import aio_pika"),
    "s3": ("services/uploader/handlers/delete_video.py", "import botocore"),
    "handlers": ("services/transcoder/handlers/plan_video.py", "from shared.http import problems"),
}

LONGEST_FILE, LONGEST_FUNCTION = 300, 40
# Besides shared/settings: commands with a few settings, the environment of ffmpeg, and failpoints.
READERS_OF_THE_ENVIRONMENT = {
    "services/ingest/cli.py",
    "services/streamer/processes.py",
    "services/transcoder/ffmpeg/runner.py",
    "services/transcoder/ffmpeg/sandbox.py",
    "services/transcoder/selftest/run.py",
    "shared/failpoints.py",
    "shared/settings/storages.py",
}
# Besides main.py, cli.py and settings.py of a service, and shared/settings itself.
READERS_OF_SETTINGS = {
    "shared/http/server.py",
    "shared/service/main.py",
    "shared/service/resources.py",
    "shared/service/work_volume.py",
    "shared/service/workspace.py",
    "shared/storage/doctor/diagnose.py",
    "shared/storage/doctor/local.py",
    "shared/storage/doctor/run_context.py",
    "shared/storage/open_storage.py",
    "shared/storage/s3/client_config.py",
    "shared/telemetry/logs.py",
    "shared/telemetry/redaction.py",
}
# Constants that are expensive to build: the SQL of this package, and validators of its types.
BUILT_ONCE = {
    "services/transcoder/plan/former_ladder.py:_adapter",
    "services/transcoder/plan/model.py:_adapter",
    "shared/database/queries.py:queries",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(REPO / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / ".importlinter", copy)
    return copy


def test_every_contract_has_a_breach():
    text = (REPO / ".importlinter").read_text()
    contracts = {
        line.split(":")[2].rstrip("]") for line in text.splitlines() if line.startswith("[importlinter:")
    }
    assert contracts == set(BREACHES)


@pytest.mark.parametrize("contract", BREACHES)
def test_contract_is_broken_by_a_breach(tree: Path, contract: str):
    name, line = BREACHES[contract]
    kept = (tree / name).read_text()
    (tree / name).write_text(f"{kept}\n{line}\n")
    try:
        command = (str(Path(sys.executable).with_name("lint-imports")), "--contract", contract, "--no-cache")
        found = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=120)
    finally:
        (tree / name).write_text(kept)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "BROKEN" in found.stdout


def test_no_files_import_each_other_in_a_cycle():
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    files = {module for module in graph.modules if not graph.find_children(module)}
    circles = [
        (module, imported)
        for module in files
        for imported in graph.find_modules_directly_imported_by(module) & files
        if graph.chain_exists(imported, module)
    ]
    assert circles == []


def test_no_file_is_long():
    lengths = {name: len(text.splitlines()) for name, text in _sources()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_long():
    lengths = {
        f"{name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in _sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize(
    ("find", "breach"),
    [
        (reads_at_import, "import os\nHOME = os.environ['HOME']"),
        (reads_at_import, "class Page:\n    text = Path('page.html').read_text()"),
        (reads_at_import, "def page(text=open('page.html').read()): pass"),
        (writes_to_modules, "SEEN = set()\ndef see(one): SEEN.add(one)"),
        (writes_to_modules, "_seen: dict[str, int] = {}\ndef see(one): _seen[one] = 1"),
        (writes_to_modules, "from shared import names\ndef see(): names.SEEN.clear()"),
        (writes_to_modules, "count = 0\ndef see():\n    global count\n    count += 1"),
        (writes_to_modules, "import atexit\ndef keep(file): atexit.register(file.close)"),
        (memoised, "@lru_cache(maxsize=9)\ndef read(key): pass"),
        (reads_of_environment, "def home(): return os.environ.get('HOME')"),
    ],
)
def test_rule_about_state_is_broken_by_a_breach(find: Callable[[ast.Module], Iterator[str]], breach: str):
    assert list(find(ast.parse(breach)))


def test_nothing_is_read_from_files_or_the_environment_at_import():
    assert [f"{name}: {what}" for name, text in _sources() for what in reads_at_import(ast.parse(text))] == []


def test_no_module_has_state_that_functions_write_to():
    assert [
        f"{name}: {what}" for name, text in _sources() for what in writes_to_modules(ast.parse(text))
    ] == []


def test_only_constants_are_memoised_by_a_module():
    assert {f"{name}:{what}" for name, text in _sources() for what in memoised(ast.parse(text))} == BUILT_ONCE


def test_the_environment_is_read_where_a_process_begins():
    assert {
        name for name, text in _sources() if any(reads_of_environment(ast.parse(text)))
    } == READERS_OF_THE_ENVIRONMENT


def test_settings_end_in_the_composition_root_and_handlers_get_values():
    settings = {"shared.settings", *(f"services.{each}.settings" for each in SERVICES)}
    readers = {name for name, text in _sources() if settings & set(imported(ast.parse(text)))}
    roots = {f"services/{each}/{file}.py" for each in SERVICES for file in ("main", "cli", "settings")}
    others = {name for name in readers - roots if not name.startswith("shared/settings/")}
    assert others == READERS_OF_SETTINGS


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_setting_that_it_does_not_use(service: str):
    used = [text for name, text in _sources() if name.startswith((f"services/{service}/", "shared/"))]
    unused = {
        field
        for field in settings_of(service).model_fields
        if not any(re.search(rf"\.{field}\b|\"{field}\"", text) for text in used)
    }
    assert unused == set()


def _sources() -> Iterator[tuple[str, str]]:
    for package in ("services", "shared"):
        for path in sorted((REPO / package).rglob("*.py")):
            yield str(path.relative_to(REPO)), path.read_text()
