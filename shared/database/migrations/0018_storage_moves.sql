-- Videos on their way from one storage to another.

create table storage_moves (
    video_id uuid primary key references videos,
    target text not null,                       -- the storage, by name
    bytes_per_second bigint,                    -- null: as fast as it goes
    status text not null default 'waiting' check (status in ('waiting', 'copying', 'switched', 'failed')),
    attempt integer not null default 0,         -- fences every write of whoever moves the video
    lease_until timestamptz,                    -- until then a mover may be writing objects
    run integer,                                -- of the video whose objects were copied
    source_id uuid,                             -- the storages by identity, from the first copy on
    target_id uuid,
    error text,                                 -- why it failed
    requested_at timestamptz not null default now(),
    switched_at timestamptz,                    -- players get the copy since then; the old objects stay for a while
    check (source_id <> target_id)
);
create index storage_moves_open on storage_moves (status, requested_at);

create table storage_move_objects (             -- copied, and read back
    video_id uuid not null references storage_moves on delete cascade,
    key text not null,
    bytes bigint not null,
    sha256 bytea not null,
    primary key (video_id, key)
);
