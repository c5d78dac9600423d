"""What is wrong with the configured storage, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.ingest.http.requests import answer, read_json
from services.ingest.http.resources import DIAGNOSE
from services.ingest.models import StorageExamination, StorageFinding, StorageReport

if TYPE_CHECKING:
    from aiohttp import web


async def examine_storage(request: web.Request) -> web.Response:
    """Run the doctor on the storage; it leaves nothing behind."""
    wanted = await read_json(request, StorageExamination)
    report = await request.app[DIAGNOSE](origins=wanted.origins, fixes_cors=wanted.fix_cors)
    findings = [
        StorageFinding(check=each.check, status=each.status, message=each.message, advice=each.advice or None)
        for each in report.findings
    ]
    return answer(StorageReport(storage=report.storage, healthy=report.is_healthy, findings=findings))
