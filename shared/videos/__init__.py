"""The video aggregate: videos, their chunks and segments. Each transition has one owning service.

Functions that change state take a connection of Outbox.transaction(), so that what they announce commits with
them. Each returns False (or raises Superseded) when the guarded UPDATE found another state than it needs.
"""

from shared.videos.asking import count_processing, delete, exceeds, retry
from shared.videos.auditing import Audited, AuditedSegment, audited, count_settled, ids_after, reopen
from shared.videos.encoding import (
    ChunkClaim,
    PlanClaim,
    claim_chunk,
    claim_plan,
    finish_chunk,
    plan_of,
    release_chunk,
    release_plan,
    renew_chunk,
    renew_plan,
    save_plan,
    warn,
)
from shared.videos.failing import current_run, fail
from shared.videos.owners import Attempt, Owner, is_any_known, is_named_as_source, owners
from shared.videos.record import Chunk, Status, Video, accept, chunks_of, get, list_newest, segments_of_chunk
from shared.videos.silence import SilentVideo, resumed, silent
from shared.videos.statements import changed
from shared.videos.storing import (
    StoreJob,
    choose_storage,
    chunk_stored,
    has_live_leases,
    is_all_stored,
    key_frames,
    purged,
    ready,
    renew_store,
    reopen_chunk,
    store_job,
    stored_codecs,
    stored_segments,
    swept,
    was_swept,
)

__all__ = [
    "Attempt",
    "Audited",
    "AuditedSegment",
    "Chunk",
    "ChunkClaim",
    "Owner",
    "PlanClaim",
    "SilentVideo",
    "Status",
    "StoreJob",
    "Video",
    "accept",
    "audited",
    "changed",
    "choose_storage",
    "chunk_stored",
    "chunks_of",
    "claim_chunk",
    "claim_plan",
    "count_processing",
    "count_settled",
    "current_run",
    "delete",
    "exceeds",
    "fail",
    "finish_chunk",
    "get",
    "has_live_leases",
    "ids_after",
    "is_all_stored",
    "is_any_known",
    "is_named_as_source",
    "key_frames",
    "list_newest",
    "owners",
    "plan_of",
    "purged",
    "ready",
    "release_chunk",
    "release_plan",
    "renew_chunk",
    "renew_plan",
    "renew_store",
    "reopen",
    "reopen_chunk",
    "resumed",
    "retry",
    "save_plan",
    "segments_of_chunk",
    "silent",
    "store_job",
    "stored_codecs",
    "stored_segments",
    "swept",
    "warn",
    "was_swept",
]
