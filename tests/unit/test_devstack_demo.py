"""The demo's output about a video."""

from __future__ import annotations

from devstack.demo import stored_at

VALUES = {"WORK_DIR": "/stack/work"}
RECORD = {"id": "v", "userId": "u", "s3Bucket": "videos", "s3Key": "hls/u/v"}


def test_stored_at_names_bucket_and_prefix_when_in_s3() -> None:
    assert stored_at({**RECORD, "storageType": "s3"}, VALUES) == "s3://videos/hls/u/v/"


def test_stored_at_names_the_directory_when_local() -> None:
    assert stored_at({**RECORD, "storageType": "local"}, VALUES) == "/stack/work/media/hls/u/v/"
