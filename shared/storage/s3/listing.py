"""Lists the objects of a bucket, also on servers whose pages do not say how to get the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import StorageRefused
from shared.storage.interface import StoredObject
from shared.storage.s3.errors import mapped
from shared.storage.s3.responses import quoted_etag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import (
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestTypeDef,
        ObjectTypeDef,
    )


async def list_pages(client: S3Client, bucket: str, prefix: str) -> AsyncIterator[list[StoredObject]]:
    """Yield the objects whose keys begin with `prefix`, page by page.

    Raises StorageUnavailable; StorageRefused if the server keeps returning the same page.
    """
    request: ListObjectsV2RequestTypeDef = {"Bucket": bucket, "Prefix": prefix}
    while True:
        with mapped(f"list {prefix}"):
            page = await client.list_objects_v2(**request)
        yield [_listed(item) for item in page.get("Contents", [])]
        if not page.get("IsTruncated"):
            return
        following = _following(request, page)
        if following == request:
            raise StorageRefused(f"S3 cannot list {prefix}: the server repeats a page of its list")
        request = following


def _following(
    request: ListObjectsV2RequestTypeDef, page: ListObjectsV2OutputTypeDef
) -> ListObjectsV2RequestTypeDef:
    """Return the request for the page after this one; the same when there is none.

    Older Ceph and Huawei's OBS say that there is more, but not how to ask for it.
    """
    bare: ListObjectsV2RequestTypeDef = {"Bucket": request["Bucket"], "Prefix": request.get("Prefix", "")}
    if token := page.get("NextContinuationToken"):
        return {**bare, "ContinuationToken": token}
    if contents := page.get("Contents"):
        return {**bare, "StartAfter": contents[-1]["Key"]}
    return request


def _listed(item: ObjectTypeDef) -> StoredObject:
    size, modified = item["Size"], item["LastModified"]
    return StoredObject(item["Key"], size, quoted_etag(item.get("ETag", ""), size, modified), modified)
