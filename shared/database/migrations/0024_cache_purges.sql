-- Videos whose copies in a CDN have to go, after a deletion, a change of visibility or a revocation.

create table cache_purges (
    video_id uuid primary key references videos on delete cascade,
    requested_at timestamptz not null default now(),  -- of the latest change
    due_at timestamptz not null,
    attempts integer not null default 0
);
create index cache_purges_due on cache_purges (due_at);
