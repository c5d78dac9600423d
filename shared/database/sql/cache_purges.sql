-- Purges of CDNs: requested with the change, taken by one uploader at a time, repeated until they succeed.

-- name: request!
insert into cache_purges (video_id, due_at) values (:video_id, now() + make_interval(secs => :delay_seconds))
on conflict (video_id) do update set requested_at = now(), due_at = excluded.due_at, attempts = 0;

-- name: take_due
-- The delay until the next attempt doubles, in case this one fails.
update cache_purges p
set attempts = attempts + 1, due_at = now() + make_interval(secs => least(:first_seconds * power(2, least(attempts, 30)), :max_seconds))
from videos v
where v.video_id = p.video_id and p.video_id in (
    select video_id from cache_purges where due_at <= now() order by due_at, video_id limit :count for update skip locked
)
returning p.video_id, p.requested_at, v.user_id;

-- name: forget!
-- Not one that was requested again meanwhile.
delete from cache_purges p using unnest(:video_ids::uuid[], :requested_at::timestamptz[]) as done (video_id, requested_at)
where p.video_id = done.video_id and p.requested_at = done.requested_at;

-- name: give_up
delete from cache_purges where attempts > 0 and requested_at < now() - make_interval(secs => :seconds) returning video_id;
