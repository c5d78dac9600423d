-- Videos that should make progress but do not.

-- name: find_stalled
-- A video is active when its row changes, a message about it is sent, or a lease is or was held.
select v.video_id, v.status, v.run, v.resumes, r.stage, activity.seconds_ago::float8 as stalled_seconds
from videos v
join video_records r using (video_id)
cross join lateral (
    select extract(epoch from now() - greatest(
        v.updated_at, v.plan_lease_until,
        (select max(lease_until) from chunks c where c.video_id = v.video_id),
        (select max(sent_at) from outbox o where o.video_id = v.video_id)
    )) as seconds_ago
) activity
where (v.status = 'processing' or (v.status = 'deleted' and v.purged_at is null))
  and v.updated_at < now() - make_interval(secs => :seconds)
  and activity.seconds_ago >= :seconds
  and not exists (select from outbox o where o.video_id = v.video_id and o.sent_at is null)
  and v.video_id > :after
order by v.video_id
limit :count;

-- name: record_resume!
-- Count an announcement; `count` is 0 for one that should not be counted. The update itself counts as
-- activity.
update videos set resumes = resumes + :count
where video_id = :video_id and status = :status and run = :run and resumes = :resumes;
