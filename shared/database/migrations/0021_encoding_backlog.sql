-- What transcoders have to do, for whoever decides how many there are. Work in progress counts: without it a busy
-- fleet with nothing waiting looks idle. Chunks of failed videos stay pending, hence the join.
create index if not exists chunks_to_encode on chunks (video_id) include (seconds, status) where status in ('pending', 'encoding');
create index if not exists videos_being_planned on videos (video_id) where status = 'processing' and plan_lease_until is not null;

create view encoding_backlog as
select
    (select count(*) from videos where status = 'processing' and plan_lease_until > now())::integer as videos_being_planned,
    coalesce(sum(c.seconds) filter (where c.status = 'pending'), 0)::double precision as waiting_seconds,
    coalesce(sum(c.seconds) filter (where c.status = 'encoding'), 0)::double precision as encoding_seconds,
    count(*) filter (where c.status = 'encoding')::integer as chunks_being_encoded
from chunks c
join videos v using (video_id)
where c.status in ('pending', 'encoding') and v.status = 'processing';
