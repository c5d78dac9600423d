"""Every metric of the pipeline; docs/operations.md says what to do when one looks wrong."""

from __future__ import annotations

import math

from prometheus_client import Counter, Gauge, Histogram

HTTP_REQUESTS = Counter("vod_http_requests_total", "HTTP requests answered", ["method", "route", "status"])
HTTP_MALFORMED = Counter("vod_http_malformed_total", "HTTP requests whose head could not be read", ["reason"])
HTTP_PROBLEMS = Counter(
    "vod_http_problems_total",
    "Errors answered with problem details, by status and reason",
    ["status", "reason"],
)
HTTP_SECONDS = Histogram("vod_http_request_seconds", "Time until an HTTP answer was complete", ["route"])

DEPENDENCY_UP = Gauge(
    "vod_dependency_up",
    "1 if the dependency answered the last check, else 0",
    ["dependency"],
    multiprocess_mode="livemin",
)

MESSAGES_SENT = Counter("vod_messages_sent_total", "Messages that the broker confirmed", ["type"])
MESSAGES_HANDLED = Counter(
    "vod_messages_handled_total",
    "Messages taken from a queue, by verdict: done, superseded, deferred, retried, failed, dead",
    ["queue", "verdict", "reason"],
)
MESSAGE_SECONDS = Histogram(
    "vod_message_seconds",
    "Time spent on one message",
    ["queue"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1200),
)
OUTBOX_DUE = Gauge("vod_outbox_due", "Messages that are due and not yet sent")
SLOTS_BUSY = Gauge("vod_slots_busy", "Messages in progress", ["queue"])

PROCESSING_VIDEOS = Gauge("vod_processing_videos", "Videos in progress, by stage", ["stage"])
OLDEST_PROCESSING = Gauge(
    "vod_oldest_processing_video_seconds",
    "How long the oldest video of a stage has been in progress since it was accepted, retried or repaired",
    ["stage"],
)
OLDEST_WAITING = Gauge(
    "vod_oldest_waiting_seconds",
    "How long the oldest video (transcoder.plan) or chunk without a worker has waited, by queue",
    ["queue"],
)
UNENCODED_SECONDS = Gauge(
    "vod_unencoded_media_seconds",
    "Seconds of media in chunks that are not yet encoded; encoding: whole chunks being encoded",
    ["queue", "state"],
)
TIME_TO_PLAYABLE = Histogram(
    "vod_time_to_playable_seconds",
    "Time from the acceptance of a video, or its retry, until players can start it",
    buckets=(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600),
)
VIDEOS_READY = Counter("vod_videos_ready_total", "Videos that became ready, without repaired ones")
VIDEOS_FAILED = Counter("vod_videos_failed_total", "Videos that failed", ["stage", "reason"])
LEASES_LOST = Counter(
    "vod_leases_lost_total",
    "Work started again because an earlier attempt was neither finished nor released",
    ["work"],
)
(
    LEASES_LOST.labels("plan"),
    LEASES_LOST.labels("chunk"),
)  # from the start: Prometheus cannot see a first increment

REFUSED = Counter("vod_refused_total", "Uploads and retries refused to protect accepted work", ["reason"])
UPLOADS_UNDER_WAY = Gauge("vod_uploads_under_way", "Uploads in progress")
WORK_FREE_BYTES = Gauge(
    "vod_work_free_bytes", "Free space of the work volume at the last check; initially NaN"
)
WORK_FREE_BYTES.set(math.nan)  # before the first check: 0 would mean a full volume
UPLOADED_BYTES = Counter("vod_uploaded_bytes_total", "Bytes received in uploads")
WHOLE_SOURCES = Counter(
    "vod_whole_source_chunks_total", "Chunks for which the whole original was fetched to the node", ["why"]
)
SOURCE_FETCHED_BYTES = Counter("vod_source_fetched_bytes_total", "Bytes of originals fetched to this node")
ENCODED_SECONDS = Counter("vod_encoded_media_seconds_total", "Seconds of source encoded", ["encoder"])
ENCODE_SPEED = Histogram(
    "vod_encode_speed_ratio",
    "Seconds of source encoded per second, for the whole ladder",
    ["encoder"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64),
)
ENCODER_INFO = Gauge("vod_encoder_info", "The encoder selected at start", ["encoder"])
SANDBOX_ACTIVE = Gauge(
    "vod_sandbox_active",
    "Sandbox protections that are active, 0 if not; landlock: the version of the kernel's ABI",
    ["protection"],
)
ENCODER_FALLBACKS = Counter(
    "vod_encoder_fallbacks_total",
    "Chunks that the GPU could not process; with reason decode they continued with NVENC, otherwise with "
    "libx264",
    ["reason"],
)
RECONCILED = Counter(
    "vod_reconciled_total",
    "Stalled videos: announced again (resumed) or given up (failed), by stage",
    ["stage", "outcome"],
)
SWEEP_FOUND = Gauge("vod_sweep_found", "Orphans found by the last sweep", ["kind"])
SWEEP_FOUND_BYTES = Gauge("vod_sweep_found_bytes", "Bytes of the orphans found by the last sweep", ["kind"])
SWEEP_REMOVED = Counter("vod_sweep_removed_total", "Orphans removed by sweeps", ["kind"])
SWEEP_LAST = Gauge(
    "vod_sweep_last_timestamp_seconds",
    "Time of the last complete sweep by this process; at first of its start, 0 without sweeps",
)
STORAGE_OUTAGE_SECONDS = Gauge(
    "vod_storage_outage_seconds",
    "How long a storage has been unavailable to this uploader; 0 while it is available",
    ["storage"],
)
AUTO_RETRIED = Counter(
    "vod_auto_retried_total", "Failed videos retried because storage or source is available again"
)
CACHE_PURGES = Counter(
    "vod_cache_purges_total",
    "Videos whose copies the CDN was asked to remove: done, failed (tried again), given_up",
    ["outcome"],
)
STORAGE_SECONDS = Histogram(
    "vod_storage_operation_seconds",
    "Duration of an operation on a storage, failed ones included; read: until the first byte",
    ["storage", "operation"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STORAGE_ERRORS = Counter(
    "vod_storage_errors_total", "Operations on a storage that failed", ["storage", "operation", "reason"]
)
STORED_BYTES = Counter("vod_stored_bytes_total", "Bytes put into storage", ["storage"])
STORED_OBJECTS = Counter("vod_stored_objects_total", "Objects put into storage", ["storage"])
HTTP_DISPLACED = Counter(
    "vod_http_connections_displaced_total",
    "Connections ended for a new one, because descriptors or memory were short",
)
SERVED_STALE = Counter(
    "vod_served_stale_total", "Answers from cache while Postgres or the storage was unavailable", ["what"]
)
CACHE_LOOKUPS = Counter(
    "vod_cache_lookups_total",
    "Lookups answered from the streamer's memory (hit) or by a read (miss): videos, keys, playlists, "
    "segments, heads",
    ["cache", "result"],
)
SERVED_BYTES = Counter("vod_served_bytes_total", "Bytes of media sent to players", ["kind"])
VIEWING_START = Histogram(
    "vod_viewing_start_seconds",
    "Time from the start of playback until the first picture, as reported by players",
    ["rendition"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32),
)
VIEWING_STALL = Histogram(
    "vod_viewing_stall_seconds",
    "Length of a stall, as reported by players",
    ["rendition"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32),
)
VIEWING_ERRORS = Counter(
    "vod_viewing_errors_total",
    "Errors that ended playback, as reported by players: network, media, refused, other",
    ["rendition", "reason"],
)
VIEWING_PLAYED = Counter(
    "vod_viewing_played_seconds_total", "Playing time reported by players", ["rendition"]
)
