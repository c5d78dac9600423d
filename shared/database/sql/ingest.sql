-- Queries used only by ingest: API keys, and the state of many videos at once.

-- name: insert_key^
insert into api_keys (name, scope, user_id, key_hash, expires_at)
values (:name, :scope, :user_id, :key_hash, :expires_at)
returning key_id, name, scope, user_id, created_at, revoked_at, expires_at, last_used_at;

-- name: caller^
select key_id, scope, user_id,
       coalesce(last_used_at < now() - interval '1 minute', true) as is_use_unknown
from api_keys
where key_hash = :key_hash and revoked_at is null and (expires_at is null or expires_at > now());

-- name: record_use!
-- Concurrent requests with the same key do not wait for each other.
update api_keys set last_used_at = now()
where key_id = (select key_id from api_keys where key_id = :key_id for update skip locked);

-- name: ended_keys
-- Which of these keys no longer work.
select key_id from api_keys
where key_id = any(:key_ids::uuid[]) and (revoked_at is not null or expires_at <= now());

-- name: list_keys
select key_id, name, scope, user_id, created_at, revoked_at, expires_at, last_used_at from api_keys order by created_at desc, key_id;

-- name: revoke_key!
update api_keys set revoked_at = now() where key_id = :key_id and revoked_at is null;

-- name: states
select video_id, revision, status, stage, progress, playable, error
from video_records where video_id = any(:video_ids::uuid[]);
