-- Uploaded originals count against the bytes that a user may have, until they are removed.

alter table videos add column original_bytes bigint;             -- null: not uploaded, or accepted before they were counted
alter table videos add column original_removed_at timestamptz;
create index videos_original_bytes on videos (user_id) include (original_bytes)
    where original_bytes is not null and original_removed_at is null and status <> 'deleted';
create index videos_failed_for_good on videos (updated_at)
    where status = 'failed' and error ->> 'retryable' = 'false' and original_removed_at is null;
