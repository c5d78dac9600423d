-- Storages and work volumes by the id in their marker, and which storage a video lies in.

create table storages (
    storage_id uuid primary key,
    kind text not null check (kind in ('local', 's3', 'volume')),
    name text,                                  -- bucket or directory, for people
    is_ours boolean not null,                   -- false: another system may own what lies there
    known_since timestamptz not null default now()
);

alter table videos add column storage_id uuid;  -- null: stored before storages had an identity
