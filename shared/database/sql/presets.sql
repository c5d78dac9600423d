-- name: all
select name, short_side, video_bps, audio_bps, rate_control, quality, profile
from presets order by short_side desc, name;

-- name: lock!
-- Concurrent replacements run one at a time; readers are not blocked.
lock table presets in share row exclusive mode;

-- name: clear!
delete from presets;

-- name: insert!
insert into presets (name, short_side, video_bps, audio_bps, rate_control, quality, profile)
select * from unnest(
    :names::text[], :short_sides::int[], :video_bps::int[], :audio_bps::int[],
    :rate_controls::text[], :qualities::float8[], :profiles::text[]
);

-- name: preferences_of$
-- The user's choice, in that order, without qualities whose preset was removed.
select array(
    select quality from unnest(qualities) with ordinality as t (quality, place)
    where quality in (select name from presets)
    order by place
)
from preferences where user_id = :user_id;

-- name: set_preferences!
insert into preferences (user_id, qualities) values (:user_id, :qualities)
on conflict (user_id) do update set qualities = excluded.qualities, updated_at = now();

-- name: ladder_of$
-- The presets at the time a video was accepted.
select ladder from videos where video_id = :video_id;
