"""The video aggregate: videos, their chunks and segments. Each transition has one owning service.

Functions that change state take a connection of Outbox.transaction(), so that the message commits with the
change. Each returns False (or raises Superseded) when its guarded UPDATE matched no row.
"""

from shared.videos.backlog import Backlog, QueueBacklog, StageBacklog, read_backlog
from shared.videos.bulk_retry import retry_failed
from shared.videos.cache_purges import (
    CachePurge,
    forget_cache_purges,
    give_up_cache_purges,
    request_cache_purge,
    take_cache_purges,
)
from shared.videos.chunk_storage import (
    StoreJob,
    chunk_stored,
    renew_store,
    reopen_chunk,
    seconds_until_playable,
    store_job,
)
from shared.videos.chunks import (
    ChunkClaim,
    add_warnings,
    claim_chunk,
    clear_warning,
    finish_chunk,
    release_chunk,
    renew_chunk,
)
from shared.videos.deletion import has_live_leases, mark_swept, purge, was_swept
from shared.videos.early_segments import (
    StoringClaim,
    claim_storing,
    mark_put,
    register_segments,
    release_storing,
    renew_storing,
    segments_stored,
)
from shared.videos.failure import current_run, fail
from shared.videos.file_owners import Attempt, Owner, is_any_known, is_named_as_source, owners
from shared.videos.fsck_records import Audited, AuditedSegment, audited, count_settled, ids_after, reopen
from shared.videos.originals import lock_failed_originals, mark_originals_removed, original_bytes_of
from shared.videos.planning import (
    PlanClaim,
    claim_plan,
    drop_plan,
    plan_without_chunks,
    release_plan,
    renew_plan,
    save_plan,
)
from shared.videos.playback_settings import Change, change, revoke_tokens
from shared.videos.publication import (
    choose_storage,
    is_all_stored,
    key_frames,
    mark_ready,
    reopen_stored,
    stored_codecs,
    stored_segments,
)
from shared.videos.quota import count_processing, lock_user, over_quota
from shared.videos.record import (
    Chunk,
    Status,
    Video,
    accept,
    chunks_of,
    get,
    list_newest,
    segments_of_chunk,
    source_report,
)
from shared.videos.resubmission import begin_anew, next_step
from shared.videos.retry_and_delete import delete, retry
from shared.videos.source_checks import UnreachableSource, retry_reachable, take_source_checks
from shared.videos.sql_results import changed
from shared.videos.stalled import StalledVideo, find_stalled, record_resume
from shared.videos.storages import (
    add_storage,
    claim_storage,
    count_elsewhere,
    is_storage_ours,
    label_storage,
    location,
    set_storage_of_user,
    storage_of_user,
    storage_wish,
)

__all__ = [
    "Attempt",
    "Audited",
    "AuditedSegment",
    "Backlog",
    "CachePurge",
    "Change",
    "Chunk",
    "ChunkClaim",
    "Owner",
    "PlanClaim",
    "QueueBacklog",
    "StageBacklog",
    "StalledVideo",
    "Status",
    "StoreJob",
    "StoringClaim",
    "UnreachableSource",
    "Video",
    "accept",
    "add_storage",
    "add_warnings",
    "audited",
    "begin_anew",
    "change",
    "changed",
    "choose_storage",
    "chunk_stored",
    "chunks_of",
    "claim_chunk",
    "claim_plan",
    "claim_storage",
    "claim_storing",
    "clear_warning",
    "count_elsewhere",
    "count_processing",
    "count_settled",
    "current_run",
    "delete",
    "drop_plan",
    "fail",
    "find_stalled",
    "finish_chunk",
    "forget_cache_purges",
    "get",
    "give_up_cache_purges",
    "has_live_leases",
    "ids_after",
    "is_all_stored",
    "is_any_known",
    "is_named_as_source",
    "is_storage_ours",
    "key_frames",
    "label_storage",
    "list_newest",
    "location",
    "lock_failed_originals",
    "lock_user",
    "mark_originals_removed",
    "mark_put",
    "mark_ready",
    "mark_swept",
    "next_step",
    "original_bytes_of",
    "over_quota",
    "owners",
    "plan_without_chunks",
    "purge",
    "read_backlog",
    "record_resume",
    "register_segments",
    "release_chunk",
    "release_plan",
    "release_storing",
    "renew_chunk",
    "renew_plan",
    "renew_store",
    "renew_storing",
    "reopen",
    "reopen_chunk",
    "reopen_stored",
    "request_cache_purge",
    "retry",
    "retry_failed",
    "retry_reachable",
    "revoke_tokens",
    "save_plan",
    "seconds_until_playable",
    "segments_of_chunk",
    "segments_stored",
    "set_storage_of_user",
    "source_report",
    "storage_of_user",
    "storage_wish",
    "store_job",
    "stored_codecs",
    "stored_segments",
    "take_cache_purges",
    "take_source_checks",
    "was_swept",
]
