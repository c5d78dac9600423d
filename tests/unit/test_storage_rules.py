"""Whether a video can be made private, depending on its storage."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from shared.errors import PrivateNotPossible
from shared.storage.location import StorageLocation
from shared.storage.placement import StorageRules


def configured(bucket: str, *, is_public: bool) -> SimpleNamespace:
    return SimpleNamespace(storage_type="s3", s3_bucket=bucket, is_public=is_public)


RULES = StorageRules(
    {
        "default": configured("films", is_public=False),
        "open": configured("films", is_public=True),
        "vault": configured("vault", is_public=False),
    }
)


@pytest.mark.parametrize(
    ("bucket", "name"), [("films", "default"), ("vault", "vault"), ("vault", "renamed"), ("vault", None)]
)
def test_video_may_be_private_in_a_storage_that_is_not_public(bucket, name):
    RULES.expect_private(StorageLocation("s3", bucket), name)


@pytest.mark.parametrize("name", ["open", "renamed", "vault", None])
def test_video_may_not_be_private_where_anyone_can_read_it_or_may_be_able_to(name):
    with pytest.raises(PrivateNotPossible, match="anyone can read this video under S3_PUBLIC_URL"):
        RULES.expect_private(StorageLocation("s3", "films"), name)


@pytest.mark.parametrize("name", ["default", "attic", None])
def test_video_may_not_be_private_in_a_storage_that_is_not_configured(name):
    with pytest.raises(
        PrivateNotPossible, match="the video is in s3 storage attic, which is not configured here"
    ):
        RULES.expect_private(StorageLocation("s3", "attic"), name)


@pytest.mark.parametrize("name", ["open", "unknown", None])
def test_video_may_not_be_private_while_anyone_may_read_its_copy(name):
    with pytest.raises(PrivateNotPossible, match="is being moved"):
        RULES.expect_no_public_copy(name)
    RULES.expect_no_public_copy("vault")
