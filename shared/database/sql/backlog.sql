-- Outstanding work of the videos that are being processed.

-- name: of_videos
-- By stage; `waiting_seconds` is the age of the oldest video that no worker is planning.
select
    stage, count(*) as videos, extract(epoch from now() - min(processing_since))::float8 as oldest_seconds,
    extract(epoch from now() - min(processing_since) filter (where not is_held))::float8 as waiting_seconds
from (
    select
        v.processing_since, coalesce(v.plan_lease_until > now(), false) as is_held,
        case
            when v.plan is null then 'plan'
            when exists (
                select from chunks c where c.video_id = v.video_id and c.status in ('pending', 'encoding')
            ) then 'encode'
            else 'upload'
        end as stage
    from videos v where v.status = 'processing'
) unfinished
group by stage order by stage;

-- name: of_chunks
-- By queue, in seconds of media; `waiting_seconds` is the age of the oldest chunk without a worker.
select
    queue, coalesce(sum(seconds) filter (where not is_held), 0)::float8 as waiting_media_seconds,
    coalesce(sum(seconds) filter (where is_held), 0)::float8 as held_media_seconds,
    extract(epoch from now() - min(waiting_since) filter (where not is_held))::float8 as waiting_seconds
from (
    select
        c.seconds, c.waiting_since, coalesce(c.lease_until > now(), false) as is_held,
        case
            when c.status = 'encoded' then 'uploader.store'
            when c.chunk = 0 then 'transcoder.first'
            else 'transcoder.bulk'
        end as queue
    from videos v join chunks c using (video_id)
    where v.status = 'processing' and c.status in ('pending', 'encoding', 'encoded')
) unstored
group by queue order by queue;
