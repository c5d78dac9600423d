-- Files and objects that belong to a record.

-- name: owners
select video_id, user_id, status, purged_at is not null as is_purged, plan is not null as is_planned,
       thumbnail_path, storage_type, s3_bucket, storage_id, coalesce(plan_lease_until > now(), false) as is_being_planned,
       exists (select from storage_moves m where m.video_id = videos.video_id and m.lease_until > now()) as is_being_moved
from videos where video_id = any(:video_ids::uuid[]);

-- name: attempts
select video_id, chunk, status, attempt, coalesce(greatest(lease_until, storing_until) > now(), false) as is_alive
from chunks where video_id = any(:video_ids::uuid[]);

-- name: named_as_source$
-- A platform may name one of our files as the source of another video.
select exists (
    select from videos
    where status <> 'deleted' and video_id <> :video_id and strpos(source_uri, (:video_id)::uuid::text) > 0
);

-- name: any_record$
select exists (select from videos);
