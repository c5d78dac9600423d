-- name: all_keys
select kid, alg, material from playback_keys
where retired_at is null or retired_at > now()
order by created_at desc, kid;

-- name: list_registered
select kid, alg, material, created_at from playback_keys where alg <> 'HS256' order by created_at desc, kid;

-- name: register!
insert into playback_keys (kid, alg, material) values (:kid, :alg, :material) on conflict (kid) do nothing;

-- name: remove!
delete from playback_keys where kid = :kid and alg <> 'HS256';

-- name: retire_own!
update playback_keys set retired_at = now() + make_interval(secs => :keep_seconds)
where alg = 'HS256' and retired_at is null;

-- name: add_own!
insert into playback_keys (kid, alg, material) values (:kid, 'HS256', :material);

-- name: has_private_videos$
select exists (select from videos where visibility = 'private');
