-- What a video was accepted with: an event corrects a wrong one, and no later change of the ladder fails it.

alter table videos add column event_digests bytea[] not null default '{}';  -- SHA-256 of the data of its events
alter table videos add column ladder jsonb;             -- the presets as they were; null: accepted before they were kept
