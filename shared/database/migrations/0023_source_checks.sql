-- Failed videos whose source was unreachable: when it was asked again, and how often, so that a dead one is not asked for ever.

create table source_checks (
    video_id uuid primary key references videos on delete cascade,
    run integer not null,                       -- the run that failed; the checks of another one do not count
    checks integer not null,
    checked_at timestamptz not null
);
