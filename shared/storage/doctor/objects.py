"""Checks each permission on objects, and that the server handles the operations correctly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from shared.errors import StorageUnavailable
from shared.storage.doctor.causes import said
from shared.storage.interface import media_type
from shared.storage.s3.errors import http_status
from shared.storage.s3.multipart import put_parts_of

if TYPE_CHECKING:
    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

    from shared.storage.doctor.run_context import Probe

BODY: Final = bytes(range(256)) * 8
PART_BYTES: Final = 5 * 1024**2  # AWS's minimum part size


async def check_objects(probe: Probe) -> None:
    """Put, read, replace and list objects, also in parts."""
    if not await _put(probe):
        return
    probe.can_read = await _read(probe)
    if probe.can_read:
        await _replace(probe)
    await _list(probe)
    if await _multipart(probe):
        await _open_uploads(probe)


async def check_deletion(probe: Probe) -> None:
    """Delete the test objects, one alone and many at once."""
    await _delete(probe)
    await _delete_batch(probe)


async def _put(probe: Probe) -> bool:
    with probe.trying("put", "s3:PutObject"):
        await probe.storage.put_bytes(f"{probe.prefix}/probe_001.ts", BODY)
        probe.report.ok("put", "an object was stored")
        return True
    return False


async def _replace(probe: Probe) -> None:
    key = f"{probe.prefix}/probe_002.ts"
    with probe.trying("replace", "s3:PutObject"):
        for body in (b"first", b"second"):
            await probe.storage.put_bytes(key, body)
        async with probe.storage.read(key) as reader:
            found = await reader.body()
        if found == b"second":
            probe.report.ok("replace", "an object is replaced at once")
        else:
            probe.report.fail(
                "replace",
                "a replaced object is still returned with its old content",
                "turn off object lock, and caches in front of the server",
            )


async def _read(probe: Probe) -> bool:
    """Read a range and the Content-Type; tell whether the credentials may read at all."""
    key = f"{probe.prefix}/probe_001.ts"
    with probe.trying("range", "s3:GetObject"):
        async with probe.storage.read(key, start=256, length=3) as reader:
            found = await reader.body()
        described = await probe.storage.client.head_object(Bucket=probe.bucket, Key=key)
        if found != BODY[256:259]:
            probe.report.fail(
                "range", "a range of an object has wrong content", "use a server that supports ranges"
            )
        elif described.get("ContentType") != media_type(key):
            probe.report.fail(
                "range",
                f"an object stored as {media_type(key)} comes back as {described.get('ContentType')}",
                "have the server keep Content-Type",
            )
        else:
            probe.report.ok("range", "objects can be read, whole and in part, with their type")
        return True
    return False


async def _list(probe: Probe) -> None:
    with probe.trying("list", "s3:ListBucket"):
        keys = [stored.key for stored in await probe.storage.keys(probe.prefix)]
        if f"{probe.prefix}/probe_001.ts" not in keys:
            probe.report.fail(
                "list",
                "a new object is not listed",
                "use a server with consistent listings: a video becomes ready by one",
            )


async def _multipart(probe: Probe) -> bool:
    """Put a large object; tell whether multipart uploads work."""
    key = f"{probe.prefix}/probe_003.ts"
    with probe.trying("multipart", "s3:PutObject and s3:AbortMultipartUpload"):
        body = bytes(PART_BYTES) + BODY
        await put_parts_of(
            probe.storage.client,
            probe.bucket,
            key,
            body,
            part_bytes=PART_BYTES,
            encryption=probe.storage.encryption,
        )
        sizes = {stored.key: stored.bytes for stored in await probe.storage.keys(probe.prefix)}
        if sizes.get(key) != len(body):
            raise StorageUnavailable(f"{sizes.get(key, 0)} of {len(body)} bytes were stored")
        probe.report.ok("multipart", "multipart uploads work")
        return True
    return False


async def _open_uploads(probe: Probe) -> None:
    key = f"{probe.prefix}/probe_004.ts"
    with probe.trying("open_uploads", "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload"):
        begun = await probe.storage.client.create_multipart_upload(Bucket=probe.bucket, Key=key)
        try:
            found = await probe.storage.open_uploads(probe.prefix)
        finally:
            await probe.storage.client.abort_multipart_upload(
                Bucket=probe.bucket, Key=key, UploadId=begun["UploadId"]
            )
        if not found:
            probe.report.warn(
                "open_uploads",
                "an unfinished upload is not listed: uploads of dead processes cannot be found",
                "add a lifecycle rule that aborts incomplete uploads after a day",
            )
        else:
            probe.report.ok("open_uploads", "unfinished uploads are found and aborted")


async def _delete(probe: Probe) -> None:
    key = f"{probe.prefix}/probe_001.ts"
    with probe.trying("delete", "s3:DeleteObject"):
        await probe.storage.delete(key)
        if key in [stored.key for stored in await probe.storage.keys(probe.prefix)]:
            probe.report.fail(
                "delete",
                "an object still exists after its deletion",
                "turn off object lock and retention for this bucket",
            )
        else:
            probe.report.ok("delete", "objects are deleted")


async def _delete_batch(probe: Probe) -> None:
    with probe.trying("batch_delete", "s3:DeleteObject"):
        objects: list[ObjectIdentifierTypeDef] = [
            {"Key": f"{probe.prefix}/probe_{number:03d}.ts"} for number in (2, 3)
        ]
        try:
            await probe.storage.client.delete_objects(Bucket=probe.bucket, Delete={"Objects": objects})
        except ClientError as error:
            if http_status(error) not in (400, 405, 411, 501):
                raise
            probe.report.warn(
                "batch_delete",
                f"the server does not support bulk deletion ({said(error)})",
                "nothing to do: objects are deleted one by one, which takes longer",
            )
            return
        probe.report.ok("batch_delete", "bulk deletion works")
