-- Unreachable sources that may be checked again.

-- name: take_due
-- Failed videos whose source is due for a check. The check is counted before it is made, so that each video
-- is taken once. The interval doubles with every check, and starts longer after every automatic retry.
with due as (
    select v.video_id, v.run, v.source_uri, coalesce(c.checks, 0) as checks
    from videos v left join source_checks c on c.video_id = v.video_id and c.run = v.run
    where v.status = 'failed' and v.error ->> 'reason' = :reason and v.source_uri ~* '^(https|s3)://'
      and v.auto_retries < :max_auto_retries and coalesce(c.checks, 0) < :max_checks
      and coalesce(c.checked_at, v.updated_at)
          <= now() - make_interval(secs => :first_seconds * power(2, coalesce(c.checks, 0) + v.auto_retries))
    order by v.updated_at, v.video_id
    limit :count
    for update of v skip locked
), taken as (
    insert into source_checks as c (video_id, run, checks, checked_at)
    select video_id, run, checks + 1, now() from due
    on conflict (video_id) do update set run = excluded.run, checks = excluded.checks, checked_at = excluded.checked_at
    where (c.run, c.checks) <> (excluded.run, excluded.checks)
    returning c.video_id
)
select due.video_id, due.run, due.source_uri from due join taken using (video_id);
