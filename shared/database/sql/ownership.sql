-- Files and objects that belong to a record.

-- name: owners
select video_id, user_id, status, purged_at is not null as is_purged, plan is not null as is_planned,
       thumbnail_path, storage_type, s3_bucket, storage_id, coalesce(plan_lease_until > now(), false) as is_being_planned,
       exists (select from storage_moves m where m.video_id = videos.video_id and m.lease_until > now()) as is_being_moved
from videos where video_id = any(:video_ids::uuid[]);

-- name: attempts
-- `registered` are the attempts whose segments the chunk consists of, or that a later attempt continues from.
select c.video_id, c.chunk, c.status, c.attempt, coalesce(r.attempts, '{}') as registered,
       coalesce(greatest(c.lease_until, c.storing_until) > now(), false) as is_alive
from chunks c left join (
    select video_id, chunk, array_agg(distinct attempt::int) filter (where attempt is not null) as attempts
    from segments, substring(path from '^chunks/[^/]+/[0-9]+-([0-9]+)/') as attempt
    where video_id = any(:video_ids::uuid[])
    group by video_id, chunk
) r using (video_id, chunk)
where c.video_id = any(:video_ids::uuid[]);

-- name: named_as_source$
-- A platform may name one of our files as the source of another video.
select exists (
    select from videos
    where status <> 'deleted' and video_id <> :video_id and strpos(source_uri, (:video_id)::uuid::text) > 0
);

-- name: any_record$
select exists (select from videos);
