-- Since when videos and chunks wait, for metrics. Rows from before count from this migration on.

alter table videos add column processing_since timestamptz not null default now();  -- accepted, retried or repaired
alter table chunks add column waiting_since timestamptz not null default now();     -- for its next step: encoding or storing
