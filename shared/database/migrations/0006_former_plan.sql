-- A plan that the code no longer understands is dropped, and the video is planned anew.

alter table videos add column former_plan jsonb;  -- of the plan that was dropped last: all but its chunks
alter table videos add column chunk_attempts integer not null default 0;  -- the highest attempt at a dropped chunk
