-- name: add!
insert into outbox (video_id, exchange, routing_key, attempt, message, available_at)
values (:video_id, :exchange, :routing_key, :attempt, :message, now() + make_interval(secs => :delay_seconds));

-- name: take_due
-- Reserve due messages for a time: the relay that reserved them sends them, or they become due again.
update outbox set available_at = now() + make_interval(secs => :seconds)
where id in (
    select id from outbox
    where sent_at is null and available_at <= now()
    order by available_at, id
    limit :count
    for update skip locked
)
returning id, exchange, routing_key, attempt, message;

-- name: give_back!
update outbox set available_at = now() where id = any(:ids::bigint[]) and sent_at is null;

-- name: mark_sent!
update outbox set sent_at = now() where id = any(:ids::bigint[]);

-- name: forget_sent!
delete from outbox where sent_at < now() - interval '1 day';

-- name: drop_unsent!
-- Commands and delayed retries of an earlier run; events state facts and are sent anyway.
delete from outbox where video_id = :video_id and sent_at is null and exchange <> 'hls.events';

-- name: count_due$
select count(*) from outbox where sent_at is null and available_at <= now();
