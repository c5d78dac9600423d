"""The load run, small: it measures the same things as the one whose figures are published."""

from __future__ import annotations

import json

from tests.bench import load


def test_every_video_becomes_ready_when_clients_upload_together(tmp_path):
    out = tmp_path / "load.json"
    code = load.main(["--videos", "16", "--clients", "8", "--out", str(out)])
    report = json.loads(out.read_text())
    assert report["statuses"] == {"ready": 16}
    assert report["uploads"]["accepted"] == 16
    assert report["all_ready"]
    assert code == (0 if report["all_flat"] else 1), "too short a run to say whether memory stays flat"
    assert {"ingest", "transcoder", "uploader", "streamer"} <= {
        name.partition("-")[0] for name in report["services"]
    }
    assert all(each["peak_bytes"] > 0 for each in report["services"].values())
    assert report["most_database_connections"] > 0
