-- Originals on the work volume: bytes per user, and originals of videos that failed permanently.

-- name: bytes_of_user$
select coalesce(sum(original_bytes), 0)::bigint from videos
where user_id = :user_id and original_bytes is not null and original_removed_at is null and status <> 'deleted';

-- name: of_failed
-- Lock the rows: a retry waits until the originals are removed, and is then refused. Only failures caused by
-- the file itself: all others may be fixed by a corrected setting or preset, another FFmpeg, or a volume that
-- is back.
select video_id from videos
where status = 'failed' and error ->> 'retryable' = 'false' and original_removed_at is null
  and error ->> 'reason' in ('no_video_stream', 'not_a_video', 'corrupt_source', 'encrypted_source', 'limits_exceeded')
  and updated_at < now() - make_interval(secs => :seconds)
order by updated_at
limit :count
for update skip locked;

-- name: mark_removed!
update videos set original_removed_at = now()
where video_id = any(:video_ids::uuid[]) and original_removed_at is null and status <> 'deleted';
