-- Queries of ingest only: API keys, and the state of many videos at once.

-- name: insert_key^
insert into api_keys (name, scope, user_id, key_hash)
values (:name, :scope, :user_id, :key_hash)
returning key_id, name, scope, user_id, created_at, revoked_at;

-- name: caller^
select key_id, scope, user_id from api_keys where key_hash = :key_hash and revoked_at is null;

-- name: list_keys
select key_id, name, scope, user_id, created_at, revoked_at from api_keys order by created_at desc, key_id;

-- name: revoke_key!
update api_keys set revoked_at = now() where key_id = :key_id and revoked_at is null;

-- name: states
select video_id, revision, status, stage, progress, playable, error
from video_records where video_id = any(:video_ids::uuid[]);
