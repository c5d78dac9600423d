-- The objects that the records expect, for comparison with the storage, and repair of missing ones.

-- name: ids_after
select video_id from videos where video_id > :after and status in ('ready', 'failed') order by video_id limit :count;

-- name: count_settled$
select count(*) from videos where status in ('ready', 'failed');

-- name: segments
select s.rendition, s.index, s.chunk, c.attempt, s.path, s.duration_seconds, s.bytes
from segments s join chunks c using (video_id, chunk)
where s.video_id = :video_id and c.status = 'stored'
order by s.rendition, s.index;

-- name: artifacts$
select artifacts from videos where video_id = :video_id;

-- name: source_bytes$
select (plan ->> 'source_bytes')::bigint from videos where video_id = :video_id;

-- name: reopen_video!
-- A ready video whose objects are lost is processed again in a new run; its record stays valid meanwhile.
update videos
set status = 'processing', run = run + 1, plan_attempt = plan_attempt + 1, plan_tries = 0, plan_lease_until = null,
    resumes = 0, processing_since = now()
where video_id = :video_id and status = 'ready' and revision = :revision;

-- name: touch_failed!
update videos set status = 'failed' where video_id = :video_id and status = 'failed' and revision = :revision;

-- name: store_again!
update chunks set status = 'encoded', tries = 0, lease_until = null, stored_until = null, waiting_since = now()
where video_id = :video_id and chunk = any(:chunks::int[]) and status = 'stored';

-- name: encode_again!
update chunks set status = 'pending', progress = 0, tries = 0, codecs = null, lease_until = null,
    stored_until = null, waiting_since = now()
where video_id = :video_id and chunk = any(:chunks::int[]) and status = 'stored';
