-- Videos whose messages were lost are found by their silence, and their work is announced again.

alter table videos add column resumes integer not null default 0;   -- in this run, without having been asked for
create index videos_in_work on videos (updated_at)
    where status = 'processing' or (status = 'deleted' and purged_at is null);
create index outbox_of_video on outbox (video_id);
