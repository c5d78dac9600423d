-- Moving videos between storages: requested, copied under a lease, switched in one transaction, old objects removed.

-- name: request
-- A video that is already being moved is left alone; a failed move starts again.
insert into storage_moves (video_id, target, bytes_per_second)
select v.video_id, :target, :bytes_per_second::bigint
from videos v
where v.status = any(:statuses::text[])
  and (v.storage_type is not null or v.status = 'processing')
  and v.storage_id is distinct from :target_id::uuid
  and (:video_ids::uuid[] is null or v.video_id = any(:video_ids::uuid[]))
  and (:user_id::text is null or v.user_id = :user_id)
  and (:source_id::uuid is null or v.storage_id = :source_id)
on conflict (video_id) do update
set target = excluded.target, bytes_per_second = excluded.bytes_per_second, status = 'waiting', error = null,
    requested_at = now()
where storage_moves.status = 'failed'
returning video_id;

-- name: next_copy$
-- The next video to copy: not one that is being processed.
select m.video_id from storage_moves m join videos v using (video_id)
where m.status in ('waiting', 'copying') and v.status in ('ready', 'failed') and v.storage_type is not null
  and m.video_id <> all(:without::uuid[])
order by m.requested_at, m.video_id
limit 1;

-- name: next_removal$
-- The next video whose old objects are no longer needed.
select video_id from storage_moves
where status = 'switched' and switched_at < now() - make_interval(secs => :grace_seconds)
  and video_id <> all(:without::uuid[])
order by switched_at
limit 1;

-- name: claim^
-- The caller holds the lock that movers share: an earlier mover is dead, or its writes match no row from now
-- on.
update storage_moves m
set status = case when m.status = 'switched' then 'switched' else 'copying' end,
    attempt = m.attempt + 1, lease_until = now() + make_interval(secs => :lease_seconds)
from videos v
where m.video_id = :video_id and v.video_id = m.video_id and m.status in ('waiting', 'copying', 'switched')
  and v.status <> 'deleted'
returning m.attempt, m.status, m.target, m.bytes_per_second, m.source_id, m.target_id, m.run, v.run as video_run;

-- name: begin!
-- Copies of an earlier run, or between other storages, are discarded. The row of the video is locked: either
-- it is already private, or the transaction that makes it private sees that it is being copied.
update storage_moves set run = :run, source_id = :source_id, target_id = :target_id
where video_id = (
    select v.video_id from videos v
    where v.video_id = :video_id and (v.visibility = 'public' or not :is_public::boolean)
    for update
) and attempt = :attempt and status = 'copying';

-- name: forget_copy!
-- The target has no objects of the video any more.
update storage_moves set run = null, source_id = null, target_id = null
where video_id = :video_id and attempt = :attempt and status = 'copying';

-- name: forget_objects!
delete from storage_move_objects where video_id = :video_id;

-- name: renew!
update storage_moves m set lease_until = now() + make_interval(secs => :lease_seconds)
from videos v
where m.video_id = :video_id and m.attempt = :attempt and v.video_id = m.video_id
  and (m.status = 'switched' or (m.status = 'copying' and v.run = m.run and v.status in ('ready', 'failed')))
  and v.status <> 'deleted';

-- name: add_object!
insert into storage_move_objects (video_id, key, bytes, sha256)
select video_id, :key, :bytes, :sha256 from storage_moves
where video_id = :video_id and attempt = :attempt and status = 'copying'
on conflict (video_id, key) do update set bytes = excluded.bytes, sha256 = excluded.sha256;

-- name: objects
select key, bytes from storage_move_objects where video_id = :video_id;

-- name: switch_video!
-- Players get the copy from here on. A private video never goes where anyone can read it.
update videos
set storage_type = :storage_type, s3_bucket = :s3_bucket, storage_id = :storage_id, s3_public_url = :s3_public_url,
    playlist_url = case when playlist_url is null then null else :playlist_url end,
    thumbnail_url = case when thumbnail_url is null then null else :thumbnail_url end
where video_id = :video_id and run = :run and status in ('ready', 'failed')
  and (visibility = 'public' or not :is_public::boolean);

-- name: switch!
update storage_moves set status = 'switched', switched_at = now(), lease_until = null
where video_id = :video_id and attempt = :attempt and status = 'copying';

-- name: fail!
update storage_moves set status = 'failed', error = :error, lease_until = null
where video_id = :video_id and attempt = :attempt and status = 'copying';

-- name: release!
update storage_moves set lease_until = null where video_id = :video_id and attempt = :attempt;

-- name: finish!
delete from storage_moves where video_id = :video_id and attempt = :attempt and status = 'switched';

-- name: forget!
delete from storage_moves where video_id = :video_id;

-- name: copies_of
-- The storages that have, or may have, objects of a video that is being moved.
select s.storage_id, s.label
from storage_moves m join storages s on s.storage_id in (m.source_id, m.target_id)
where m.video_id = :video_id;

-- name: open
select m.video_id, m.target, m.status, m.error, coalesce(o.bytes, 0)::bigint as copied_bytes
from storage_moves m
left join lateral (
    select sum(bytes) as bytes from storage_move_objects o where o.video_id = m.video_id
) o on true
order by m.requested_at, m.video_id;
