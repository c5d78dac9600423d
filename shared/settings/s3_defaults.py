"""Defaults derived from S3_PROVIDER for unset variables; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

S3Provider = Literal["aws", "r2", "minio", "garage", "generic"]

PROVIDER_REGION: dict[S3Provider, str] = {
    "aws": "us-east-1",
    "r2": "auto",
    "minio": "us-east-1",
    "garage": "garage",
    "generic": "us-east-1",
}


def s3_defaults(values: Mapping[str, object]) -> dict[str, object]:
    """Return the default region and addressing style; empty for an unknown provider."""
    provider = values.get("s3_provider", "generic")
    if provider not in PROVIDER_REGION:
        return {}
    style = "virtual" if provider == "aws" and not _has_dots(values) else "path"
    return {"s3_region": _region(provider, values), "s3_addressing_style": style}


def _region(provider: object, values: Mapping[str, object]) -> object:
    given = values.get("aws_region") or values.get("aws_default_region")
    return given if provider == "aws" and given else PROVIDER_REGION[provider]  # type: ignore[index]


def _has_dots(values: Mapping[str, object]) -> bool:
    """Tell whether the bucket name has dots: AWS's wildcard certificate covers only one label."""
    return "." in str(values.get("s3_bucket", ""))
