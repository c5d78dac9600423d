-- Several storages at once: what the settings call each, which one a video was asked to lie in, and the users' own.

alter table storages add column label text;         -- its name in the settings of the uploader that identified it last

alter table videos add column wished_storage text;  -- by name; null: its user's, or the default one

create table user_storages (
    user_id text primary key,
    storage text not null,                          -- where an admin has this user's videos stored, by name
    updated_at timestamptz not null default now()
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
    v.visibility, v.delivery, v.token_generation,
    v.storage_id, s.label as storage_name, v.wished_storage
from videos v
left join storages s on s.storage_id = v.storage_id
left join lateral (
    select
        sum(seconds) as total,
        sum(case when status in ('encoded', 'stored') then seconds else seconds * progress end) as encoded,
        sum(case when status = 'stored' then seconds else 0 end) as stored,
        bool_and(status in ('encoded', 'stored')) as all_encoded,
        bool_or(chunk = 0 and status = 'stored') as playable
    from chunks where chunks.video_id = v.video_id
) c on true;
