from __future__ import annotations

from tools.reason_table import PAGE, page


def test_table_of_reasons_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make schemas`"


def test_table_of_reasons_holds_those_of_records_and_of_answers() -> None:
    text = page()
    for name, status in (
        ("source_unavailable", 400),
        ("unauthorized", 401),
        ("not_ready_yet", 404),
        ("unsupported_encoding", 415),
        ("head_too_large", 431),
        ("malformed_request", 400),
        ("too_many_uploads", 503),
        ("streamer_unreachable", 503),
        ("insufficient_storage", 507),
        ("range_not_satisfiable", 416),
        ("not_failed", 409),
        ("invalid_event", 400),
    ):
        assert f"| `{name}` | {status} |" in text, name
