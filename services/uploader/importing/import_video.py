"""Imports an HLS tree from a storage: checks it, copies it into our layout, creates the record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from uuid import uuid5

from services.uploader.importing.tree import (
    NotImportable,
    parse_segments,
    parse_variants,
    rendition_names,
    resolve,
    target_duration,
)
from services.uploader.maintenance.orphan_rules import owner_of_key
from services.uploader.moving.copy import Copier, Pace, sizes_in
from shared import videos
from shared.artifacts import THUMBNAIL
from shared.contracts.events import VideoStored
from shared.errors import StorageUnavailable
from shared.hls.playlists import complete
from shared.hls.renditions import RenditionSet, StoredSegment, of_rendition
from shared.names import segment_name, storage_prefix
from shared.playback.urls import Place, playlist_url, thumbnail_url
from shared.storage.interface import KEY
from shared.storage.marker import expect_marker
from shared.storage.placement import StorageWish
from shared.videos import imports

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Literal
    from uuid import UUID

    from services.uploader.importing.tree import Entry, Variant
    from shared.database.pool import Connection
    from shared.hls.playlists import Playlists
    from shared.messaging.outbox import Outbox
    from shared.playback.urls import PlaybackUrls
    from shared.storage import Storage
    from shared.storage.placement import StorageRules

MAX_PLAYLIST_BYTES: Final = 8 * 1024**2
MAX_THUMBNAIL_BYTES: Final = 8 * 1024**2
PACKET_BYTES: Final = 188
SYNC: Final = 0x47


@dataclass(frozen=True)
class ImportRequest:
    """The key of the multivariant playlist, and additional values for the record."""

    key: str
    user_id: str
    title: str | None = None
    visibility: Literal["public", "private"] = "public"
    frame_rate: float | None = None


@dataclass(frozen=True)
class Tree:
    """A checked tree: its renditions, and for each object in our layout its present key."""

    presentation: RenditionSet
    codecs: Mapping[str, str]
    segments: tuple[StoredSegment, ...]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Importer:
    """Imports trees of one storage."""

    outbox: Outbox
    storage: Storage
    urls: PlaybackUrls
    rules: StorageRules
    spool: Path

    async def run(self, wanted: ImportRequest) -> UUID:
        """Import a tree and return its video's id; idempotent.

        Raises NotImportable, PrivateNotPossible, StorageUnavailable.
        """
        self.rules.choose(StorageWish(self.storage.name, None, wanted.visibility))
        await expect_marker(self.storage)
        tree = await self._read(wanted)
        video_id = await self._video_id(wanted, tree)
        async with self.outbox.transaction() as connection:
            if await _exists(connection, wanted, video_id):
                return video_id
        prefix = storage_prefix(wanted.user_id, video_id)
        written = complete(tree.presentation, tree.segments, tree.codecs, {})
        thumbnail = await self._put_all(tree, prefix, written)
        size = sum(each.bytes for each in tree.segments)
        size += thumbnail + sum(len(text.encode()) for text in written.texts.values())
        stored = self._event(wanted, video_id, written, tree, size, has_thumbnail=bool(thumbnail))
        async with self.outbox.transaction() as connection:
            record = imports.Imported(
                stored,
                wanted.title,
                wanted.visibility,
                f"import:{self.storage.name}/{wanted.key}",
                tree.presentation,
                tree.segments,
                tree.codecs,
                self.storage.location,
            )
            if await imports.add_imported(connection, record):
                await self.outbox.add(connection, stored)
            else:  # another import was faster
                await _exists(connection, wanted, video_id)
        return video_id

    async def _read(self, wanted: ImportRequest) -> Tree:
        """Read and check all playlists, and find every object that they refer to."""
        folder = str(PurePosixPath(wanted.key).parent)
        if not KEY.fullmatch(wanted.key) or folder == ".":
            raise NotImportable(f"{wanted.key} is not the key of a playlist in a folder")
        variants = parse_variants(await self._text(wanted.key), wanted.key)
        names, sizes = rendition_names(variants), await sizes_in(self.storage, folder)
        segments, sources, every = [], {}, []
        for name, variant in zip(names, variants, strict=True):
            key = resolve(folder, variant.uri, wanted.key)
            entries = parse_segments(await self._text(key), key)
            every += entries
            for index, entry in enumerate(entries, start=1):
                source = resolve(str(PurePosixPath(key).parent), entry.uri, key)
                if not sizes.get(source):
                    raise NotImportable(f"{key} refers to {source}, which is missing or empty")
                sources[f"{name}/{segment_name(index)}"] = source
                segments.append(StoredSegment(name, index, entry.duration_seconds, sizes[source]))
            await self._expect_transport_stream(sources[f"{name}/{segment_name(1)}"])
        if 0 < sizes.get(f"{folder}/{THUMBNAIL.object_name}", 0) <= MAX_THUMBNAIL_BYTES:
            sources[THUMBNAIL.object_name] = f"{folder}/{THUMBNAIL.object_name}"
        codecs = {name: variant.codecs for name, variant in zip(names, variants, strict=True)}
        return Tree(_presentation(wanted, names, variants, every), codecs, tuple(segments), sources)

    async def _text(self, key: str) -> str:
        if not KEY.fullmatch(key):
            raise NotImportable(f"{key} is not a valid key")
        try:
            async with self.storage.read(key, length=MAX_PLAYLIST_BYTES) as reader:
                return (await reader.body()).decode()
        except KeyError:
            raise NotImportable(f"there is no object {key} in the storage {self.storage.name}") from None
        except UnicodeDecodeError as error:
            raise NotImportable(f"{key} is not a playlist: it is not UTF-8") from error

    async def _expect_transport_stream(self, key: str) -> None:
        async with self.storage.read(key, length=PACKET_BYTES + 1) as reader:
            head = await reader.body()
        if len(head) <= PACKET_BYTES or {head[0], head[PACKET_BYTES]} != {SYNC}:
            raise NotImportable(f"{key} is not an MPEG-TS segment")

    async def _video_id(self, wanted: ImportRequest, tree: Tree) -> UUID:
        """Return the id of a tree that is already in our layout, else one derived from its location."""
        owner = owner_of_key(wanted.key)
        if owner and owner[0] == wanted.user_id:
            prefix = storage_prefix(*owner)
            if all(source == f"{prefix}/{name}" for name, source in tree.sources.items()):
                return owner[1]
        if self.storage.storage_id is None:
            raise StorageUnavailable(f"the storage {self.storage.name} is not identified")
        return uuid5(self.storage.storage_id, wanted.key)

    async def _put_all(self, tree: Tree, prefix: str, written: Playlists) -> int:
        """Put every object in its place, the multivariant playlist last; return the size of the thumbnail."""
        copier = Copier(self.storage, self.storage, Pace(None), lambda: self.spool)
        thumbnail = 0
        for name, source in tree.sources.items():
            target = f"{prefix}/{name}"
            if target != source:
                await copier.copy(source, to=target)
            if name == THUMBNAIL.object_name:
                stored = await self.storage.head(target)
                thumbnail = stored.bytes if stored else 0
        for name, text in written.texts.items():
            await self.storage.put_bytes(f"{prefix}/{name}", text.encode())
        return thumbnail

    def _event(
        self,
        wanted: ImportRequest,
        video_id: UUID,
        written: Playlists,
        tree: Tree,
        size: int,
        *,
        has_thumbnail: bool,
    ) -> VideoStored:
        first = tree.presentation.renditions[0][0]
        duration = sum(each.duration_seconds for each in of_rendition(tree.segments, first))
        prefix = storage_prefix(wanted.user_id, video_id)
        base = self.urls.base(video_id, Place(self.storage.location, self.storage.name, prefix))
        return VideoStored(
            video_id=video_id,
            user_id=wanted.user_id,
            storage_type=self.storage.kind,
            s3_bucket=self.storage.bucket,
            s3_key=prefix,
            s3_public_url=self.storage.public_base_url,
            playlist_url=playlist_url(base),
            thumbnail_url=thumbnail_url(base) if has_thumbnail else None,
            duration_seconds=round(duration, 6),
            renditions=list(written.renditions),
            bytes=size,
        )


async def _exists(connection: Connection, wanted: ImportRequest, video_id: UUID) -> bool:
    """Tell whether the tree is already a video of its user.

    Raises NotImportable if that was deleted, or belongs to another user.
    """
    found = await videos.get(connection, video_id)
    if found is not None and found.user_id != wanted.user_id:
        raise NotImportable(f"{wanted.key} is already the video {video_id} of another user")
    if found is not None and found.status == "deleted":
        raise NotImportable(
            f"{wanted.key} was the video {video_id}, which is deleted: copy the tree to another folder first"
        )
    return found is not None


def _presentation(
    wanted: ImportRequest, names: list[str], variants: list[Variant], entries: list[Entry]
) -> RenditionSet:
    rates = [rate for variant in variants if (rate := variant.frame_rate)]
    rate = wanted.frame_rate or max(rates, default=None)
    if rate is None:
        raise NotImportable(f"{wanted.key} has no FRAME-RATE: give --frame-rate")
    sizes = [(name, each.width, each.height) for name, each in zip(names, variants, strict=True)]
    largest_first = sorted(sizes, key=lambda size: size[1] * size[2], reverse=True)
    return RenditionSet(tuple(largest_first), rate, target_duration(entries))
