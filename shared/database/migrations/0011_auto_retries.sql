-- Videos that failed while the storage was away are retried by the system when it is back, a few times at most.

alter table videos add column auto_retries integer not null default 0;   -- since a person retried it last
create index videos_failed_for on videos ((error ->> 'reason'), video_id) where status = 'failed';
