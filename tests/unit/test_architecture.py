"""Each contract of .importlinter finds a deliberate breach, and files import each other in no circle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

REPO = Path(__file__).parents[2]
PACKAGES = ("services", "shared", "devstack", "tools")
BREACHES = {
    "services": ("services/streamer/catalog.py", "from services.ingest import records"),
    "shared-below-services": ("shared/names.py", "from services.streamer import cache"),
    "shared": ("shared/names.py", "from shared.storage import memory"),
    "transcoder": ("services/transcoder/codecs/h264_levels.py", "from services.transcoder.plan import model"),
    "ingest": ("services/ingest/uploads/accept.py", "from services.ingest.http import routes"),
    "uploader": ("services/uploader/maintenance/ownership.py", "from services.uploader.fsck import check"),
    "streamer": ("services/streamer/byte_ranges.py", "from services.streamer import routes"),
    "pure": ("shared/hls/playlists.py", "import asyncio"),
    "postgres": ("shared/videos/record.py", "import asyncpg"),
    "rabbitmq": ("services/uploader/handlers/delete_video.py", "import aio_pika"),
    "s3": ("services/uploader/handlers/delete_video.py", "import botocore"),
    "handlers": ("services/transcoder/handlers/plan_video.py", "from shared.http import problems"),
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


def test_no_files_import_each_other_in_a_circle():
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    files = {module for module in graph.modules if not graph.find_children(module)}
    circles = [
        (module, imported)
        for module in files
        for imported in graph.find_modules_directly_imported_by(module) & files
        if graph.chain_exists(imported, module)
    ]
    assert circles == []
