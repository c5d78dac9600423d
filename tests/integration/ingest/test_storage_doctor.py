from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.ingest.conftest import assert_problem

if TYPE_CHECKING:
    from tests.integration.ingest.conftest import Api


async def test_storage_is_examined_for_admins_alone(api: Api) -> None:
    status, report, _ = await api.call("POST", "/api/storage/doctor", as_="admin", json={})
    assert (status, report["healthy"]) == (200, True), report
    assert [finding["check"] for finding in report["findings"]][:3] == ["put", "list", "delete"]
    assert_problem(await api.call("POST", "/api/storage/doctor", json={}), 403, "forbidden")
    wrong = await api.call("POST", "/api/storage/doctor", as_="admin", json={"origin": "x"})
    assert_problem(wrong, 400, "invalid_request")
