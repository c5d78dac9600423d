-- Who may watch a video and how its bytes reach players; the keys that verify playback tokens.

alter table videos add column visibility text not null default 'public' check (visibility in ('public', 'private'));
alter table videos add column delivery text check (delivery in ('redirect', 'signed', 'proxy'));  -- null: as configured
alter table videos add column token_generation integer not null default 0;  -- raised to revoke all tokens of a video

create index videos_private on videos (video_id) where visibility = 'private';

create table playback_keys (
    kid text primary key check (kid ~ '^[A-Za-z0-9_]{1,64}$'),
    alg text not null check (alg in ('HS256', 'EdDSA', 'RS256')),
    material text not null,                     -- HS256: our secret; else a platform's public key in PEM
    created_at timestamptz not null default now(),
    retired_at timestamptz                      -- from then on it verifies nothing any more
);

-- 244 random bits: each version 4 UUID has 122, from the strong random source of Postgres.
insert into playback_keys (kid, alg, material)
values (
    'own' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 12), 'HS256',
    replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')
);

create or replace view video_records as
select
    v.video_id, v.user_id, v.title, v.filename, v.source_uri, v.qualities, v.status, v.run, v.presentation,
    v.thumbnail_path, v.duration_seconds, v.width, v.height, v.warnings || array(select w ->> 'message' from jsonb_array_elements(v.coded_warnings) w) as warnings, v.error, v.storage_type, v.s3_bucket,
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
    v.status <> 'deleted' and (v.renditions <> '[]' or coalesce(c.playable, false)) as playable,
    v.coded_warnings || array_to_json(array(
        select json_build_object('code', 'note', 'message', w) from unnest(v.warnings) w
    ))::jsonb as coded_warnings,
    v.visibility, v.delivery, v.token_generation
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
