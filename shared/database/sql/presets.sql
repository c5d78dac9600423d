-- name: all
select name, short_side, video_bps, audio_bps, rate_control, quality, profile
from presets order by short_side desc, name;

-- name: lock!
-- Two who replace the list at once take turns; readers are not held up.
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
-- What the user chose, in that order, as far as there are still presets for it.
select array(
    select quality from unnest(qualities) with ordinality as t (quality, place)
    where quality in (select name from presets)
    order by place
)
from preferences where user_id = :user_id;

-- name: set_preferences!
insert into preferences (user_id, qualities) values (:user_id, :qualities)
on conflict (user_id) do update set qualities = excluded.qualities, updated_at = now();
