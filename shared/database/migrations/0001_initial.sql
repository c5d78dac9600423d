-- Videos, their chunks and segments, the ladder, preferences, API keys, and the outbox.

create table videos (
    video_id uuid primary key,
    user_id text not null check (user_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    title text,
    filename text,
    source_uri text not null,
    qualities text[],
    status text not null default 'processing'
        check (status in ('processing', 'ready', 'failed', 'deleted')),
    run integer not null default 1,             -- raised by every retry
    plan jsonb,                                 -- the transcoder's own: timeline, ladder, seek points
    presentation jsonb,                         -- what playlists are made of (shared/playlists.py)
    plan_lease_until timestamptz,               -- somebody is planning, and was alive a moment ago
    plan_tries integer not null default 0,      -- plannings begun and neither finished nor given up cleanly
    thumbnail_path text,                        -- under WORK_DIR, until it is stored
    duration_seconds double precision,
    width integer,                              -- of the source as shown: rotated, square pixels
    height integer,
    warnings text[] not null default '{}',
    error jsonb,                                -- {stage, reason, message, retryable}
    storage_type text check (storage_type in ('local', 's3')),
    s3_bucket text,
    s3_key text,
    s3_public_url text,
    playlist_url text,
    thumbnail_url text,
    renditions jsonb not null default '[]',
    bytes bigint,
    swept_at timestamptz,                       -- a deleted video's objects and files were removed once
    purged_at timestamptz,                      -- and again, when nobody could still be writing any
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    revision bigint not null default 1
);
create index videos_newest on videos (created_at desc, video_id desc) where status <> 'deleted';
create index videos_newest_of_user on videos (user_id, created_at desc, video_id desc) where status <> 'deleted';

create function touch_video() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    new.revision := old.revision + 1;
    return new;
end $$;
create trigger touch_video before update on videos for each row execute function touch_video();

create table chunks (
    video_id uuid not null references videos,
    chunk integer not null check (chunk >= 0),
    seconds double precision not null,
    status text not null default 'pending' check (status in ('pending', 'encoding', 'encoded', 'stored')),
    attempt integer not null default 0,         -- fences every write of whoever encodes the chunk
    tries integer not null default 0,           -- claims that were neither released nor stored
    lease_until timestamptz,                    -- until then the claim is alive without another word
    progress real not null default 0,           -- 0..1 of this attempt
    codecs jsonb,                               -- RFC 6381 string by rendition, read from the encoded bits
    primary key (video_id, chunk)
);

create table segments (
    video_id uuid not null,
    rendition text not null,
    index integer not null check (index >= 1),
    chunk integer not null,
    path text not null,                         -- under WORK_DIR, as the attempt left it
    duration_seconds double precision not null,
    bytes bigint not null,
    key_frames jsonb not null default '[]',     -- [seconds from its start, first byte, bytes] of each
    primary key (video_id, rendition, index),
    foreign key (video_id, chunk) references chunks
);
create index segments_of_chunk on segments (video_id, chunk);

create table presets (
    name text primary key,
    short_side integer not null check (short_side between 16 and 4320),
    video_bps integer not null check (video_bps > 0),
    audio_bps integer not null check (audio_bps > 0)
);
insert into presets values
    ('1080p', 1080, 5000000, 128000),
    ('720p', 720, 2800000, 128000),
    ('480p', 480, 1400000, 128000),
    ('360p', 360, 800000, 128000);

create table preferences (
    user_id text primary key,
    qualities text[] not null,
    updated_at timestamptz not null default now()
);

create table api_keys (
    key_id uuid primary key default gen_random_uuid(),
    name text not null,
    scope text not null check (scope in ('admin', 'service', 'user')),
    user_id text,
    key_hash bytea not null unique,             -- SHA-256: the keys are 256 random bits
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    check ((scope = 'user') = (user_id is not null))
);

create table outbox (
    id bigint generated always as identity primary key,
    video_id uuid not null,
    exchange text not null,
    routing_key text not null,
    attempt integer not null default 0,         -- how many times the handling of this message has failed
    message jsonb not null,
    available_at timestamptz not null default now(),
    sent_at timestamptz
);
create index outbox_unsent on outbox (available_at, id) where sent_at is null;
create index outbox_sent on outbox (sent_at) where sent_at is not null;
create index outbox_unsent_of_video on outbox (video_id) where sent_at is null;

-- What the API answers: the row with stage, progress and playable worked out from the chunks.
create view video_records as
select
    v.video_id, v.user_id, v.title, v.filename, v.source_uri, v.qualities, v.status, v.run, v.presentation,
    v.thumbnail_path, v.duration_seconds, v.width, v.height, v.warnings, v.error, v.storage_type, v.s3_bucket,
    v.s3_key, v.s3_public_url, v.playlist_url, v.thumbnail_url, v.renditions, v.bytes, v.created_at,
    v.updated_at, v.revision,
    v.plan is not null as is_planned,           -- the plan itself is large, and only encoders need it
    case
        when v.status = 'ready' then 'stored'
        when v.status = 'failed' then v.error ->> 'stage'
        when v.plan is null then 'plan'
        when c.all_encoded then 'upload'
        else 'encode'
    end as stage,
    case
        when v.status = 'ready' then 1.0
        when c.total is null then 0.0
        else round((0.95 * c.encoded + 0.04 * c.stored)::numeric / greatest(c.total, 0.001)::numeric, 4)
    end::double precision as progress,
    v.status = 'ready' or (v.status <> 'deleted' and coalesce(c.playable, false)) as playable
from videos v
left join lateral (
    select
        sum(seconds) as total,
        sum(case when status in ('encoded', 'stored') then seconds else seconds * progress end) as encoded,
        sum(case when status = 'stored' then seconds else 0 end) as stored,
        bool_and(status in ('encoded', 'stored')) as all_encoded,
        bool_or(chunk = 0 and status = 'stored') as playable
    from chunks where chunks.video_id = v.video_id
) c on true;
