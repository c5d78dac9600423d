-- Segments are stored and shown while the rest of their chunk is still being encoded.

alter table chunks add column if not exists stored_until integer;       -- while the chunk is not stored: the last segment that is
alter table chunks add column if not exists storing_until timestamptz;  -- lease of an uploader that puts such segments
alter table segments add column if not exists is_stored boolean not null default false;  -- this very file was put before its chunk
