-- name: insert!
-- Accept a video; a duplicate message changes nothing.
insert into videos (
    video_id, user_id, title, filename, source_uri, qualities, visibility, delivery, wished_storage, ladder,
    event_digests, original_bytes
)
values (
    :video_id, :user_id, :title, :filename, :source_uri, :qualities, :visibility, :delivery, :wished_storage, :ladder,
    array[:digest::bytea], :original_bytes
)
on conflict (video_id) do nothing;

-- name: get^
select * from video_records where video_id = :video_id;

-- name: list_newest
select * from video_records
where status <> 'deleted'
  and (:user_id::text is null or user_id = :user_id)
  and (:status::text is null or status = :status)
  and (:before_time::timestamptz is null or (created_at, video_id) < (:before_time, :before_id::uuid))
order by created_at desc, video_id desc
limit :count;

-- name: change!
-- Change the given values: an absent title, visibility or delivery is unchanged.
update videos
set title = case when :sets_title then :title else title end,
    visibility = coalesce(:visibility, visibility),
    delivery = case when :sets_delivery then :delivery else delivery end
where video_id = :video_id and status <> 'deleted';

-- name: revoke_tokens$
update videos set token_generation = token_generation + 1
where video_id = :video_id and status <> 'deleted'
returning token_generation;

-- name: lock_user!
-- Transactions that start work for a user run one at a time. The first key separates these locks from others.
select pg_advisory_xact_lock(1987015798, hashtext(:user_id));

-- name: count_processing$
-- Count up to the limit only, without videos under repair, which the user did not request.
select count(*) from (
    select from videos where user_id = :user_id and status = 'processing' and renditions = '[]' limit :most
) counted;

-- name: save_plan!
update videos
set plan = :plan, presentation = :presentation, thumbnail_path = :thumbnail_path, duration_seconds = :duration_seconds,
    width = :width, height = :height, coded_warnings = :warnings, source_report = :report, plan_lease_until = null
where video_id = :video_id and plan_attempt = :attempt and status = 'processing' and plan is null;

-- name: insert_chunks!
-- Attempts continue from those of an earlier plan's chunks, so that their workers stay fenced.
insert into chunks (video_id, chunk, seconds, attempt)
select video_id, ordinality - 1, seconds, chunk_attempts
from videos, unnest(:seconds::float8[]) with ordinality as t (seconds, ordinality)
where video_id = :video_id;

-- name: chunks_of
select chunk, status, attempt from chunks where video_id = :video_id order by chunk;

-- name: claim_chunk^
-- Claim a chunk: raise its attempt, unless another claim is alive. Only the chunk's part of the plan is returned,
-- with the chunk before: every plan has its chunks under `chunks` and the first frames of all segments under
-- `segment_starts`.
update chunks c
set status = 'encoding', attempt = attempt + 1, tries = tries + 1, progress = 0, checks_version = true,
    lease_until = now() + make_interval(secs => :lease_seconds)
from videos v
where c.video_id = :video_id and c.chunk = :chunk and v.video_id = c.video_id and v.status = 'processing'
  and (c.status = 'pending' or (c.status = 'encoding' and c.lease_until < now()))
returning c.attempt, c.tries, v.user_id, v.source_uri, v.plan_attempt,
    v.plan - array['chunks', 'segment_starts'] || jsonb_build_object(
        'chunks', jsonb_path_query_array(
            v.plan,
            '$.chunks[$first to $last]',
            jsonb_build_object('first', greatest(c.chunk - 1, 0), 'last', c.chunk),
            true
        ),
        'segment_starts', jsonb_path_query_array(
            v.plan,
            '$.segment_starts[$chunk.first_segment - 1 to $chunk.first_segment + $chunk.segments - 2]',
            jsonb_build_object('chunk', v.plan -> 'chunks' -> c.chunk),
            true
        )
    ) as plan;

-- name: chunk_state^
select v.status, c.status as chunk_status, c.attempt,
       greatest(extract(epoch from c.lease_until - now()), 0)::float8 as lease_left_seconds
from videos v join chunks c using (video_id)
where c.video_id = :video_id and c.chunk = :chunk;

-- name: renew_chunk!
-- Renew the lease of an attempt and record its progress.
update chunks c
set lease_until = now() + make_interval(secs => :lease_seconds), progress = :progress
from videos v
where c.video_id = :video_id and c.chunk = :chunk and c.attempt = :attempt and c.status = 'encoding'
  and v.video_id = c.video_id and v.status <> 'deleted';

-- name: release_chunk!
update chunks set status = 'pending', tries = tries - 1, lease_until = null, progress = 0
where video_id = :video_id and chunk = :chunk and attempt = :attempt and status = 'encoding';

-- name: plan_without_chunks$
select plan || '{"chunks": [], "segment_starts": []}' from videos where video_id = :video_id;

-- name: lock_chunks
-- Block new claims until the transaction ends.
select chunk, attempt, coalesce(greatest(lease_until, storing_until) > now(), false) as is_held
from chunks where video_id = :video_id order by chunk for update;

-- name: drop_plan!
update videos
set plan = null, former_plan = plan - array['chunks', 'segment_starts'], plan_attempt = plan_attempt + 1,
    plan_tries = 0, plan_lease_until = null, chunk_attempts = greatest(chunk_attempts, :attempts)
where video_id = :video_id and plan_attempt = :plan_attempt and status = 'processing' and plan is not null;

-- name: claim_plan^
-- Claim the planning of a video: raise its attempt, unless another claim is alive.
update videos
set plan_attempt = plan_attempt + 1, plan_tries = plan_tries + 1,
    plan_lease_until = now() + make_interval(secs => :lease_seconds)
where video_id = :video_id and status = 'processing' and plan is null
  and (plan_lease_until is null or plan_lease_until < now())
returning plan_attempt, plan_tries, former_plan;

-- name: renew_plan!
update videos set plan_lease_until = now() + make_interval(secs => :lease_seconds)
where video_id = :video_id and plan_attempt = :attempt and status = 'processing' and plan is null;

-- name: release_plan!
update videos set plan_tries = plan_tries - 1, plan_lease_until = null
where video_id = :video_id and plan_attempt = :attempt and plan is null;

-- name: run$
select run from videos where video_id = :video_id;

-- name: finish_chunk!
update chunks c
set status = 'encoded', lease_until = null, progress = 1, codecs = :codecs, waiting_since = now()
from videos v
where c.video_id = :video_id and c.chunk = :chunk and c.attempt = :attempt and c.status = 'encoding'
  and v.video_id = c.video_id and v.status <> 'deleted';

-- name: add_warnings!
-- Add warnings that the record of a video in processing does not have yet.
update videos
set coded_warnings = coded_warnings || (
    select jsonb_agg(w) from jsonb_array_elements(:warnings::jsonb) w
    where w not in (select jsonb_array_elements(coded_warnings))
)
where video_id = :video_id and status = 'processing' and exists (
    select from jsonb_array_elements(:warnings::jsonb) w
    where w not in (select jsonb_array_elements(coded_warnings))
);

-- name: clear_warning!
update videos
set coded_warnings = (
    select coalesce(jsonb_agg(w), '[]') from jsonb_array_elements(coded_warnings) w where w ->> 'code' <> :code::text
)
where video_id = :video_id and coded_warnings @> jsonb_build_array(jsonb_build_object('code', :code::text));

-- name: source_report$
select source_report from videos where video_id = :video_id;

-- name: reopen_chunk$
-- The encoded files are lost: the chunk is encoded again.
update chunks
set status = 'pending', progress = 0, codecs = null, lease_until = null, reopened = reopened + 1, waiting_since = now()
where video_id = :video_id and chunk = :chunk and attempt = :attempt and status = 'encoded'
returning reopened;

-- name: clear_segments!
-- Forget the files of other attempts.
delete from segments where video_id = :video_id and chunk = :chunk and path <> all(:paths::text[]);

-- name: insert_segments!
-- A file that was already registered and stored keeps that state; another file for the same segment replaces
-- it.
insert into segments (video_id, rendition, index, chunk, path, duration_seconds, bytes, key_frames)
select :video_id, r, i, :chunk, p, d, b, :key_frames::jsonb -> (n - 1)::int
from unnest(:renditions::text[], :indexes::int[], :paths::text[], :durations::float8[], :sizes::bigint[])
    with ordinality as t (r, i, p, d, b, n)
on conflict (video_id, rendition, index) do update
set chunk = excluded.chunk, path = excluded.path, duration_seconds = excluded.duration_seconds,
    bytes = excluded.bytes, key_frames = excluded.key_frames,
    is_stored = segments.is_stored and segments.path = excluded.path;

-- name: claim_storing^
-- Claim the registered segments of a chunk that is still being encoded, unless another uploader is storing
-- them.
update chunks c set storing_until = now() + make_interval(secs => :lease_seconds)
from videos v
where c.video_id = :video_id and c.chunk = :chunk and c.status = 'encoding' and v.video_id = c.video_id
  and v.status = 'processing' and coalesce(c.storing_until < now(), true)
returning v.user_id, c.attempt;

-- name: renew_storing!
-- Renew the lease as long as the files being stored are the registered ones.
update chunks c set storing_until = now() + make_interval(secs => :lease_seconds)
from videos v
where c.video_id = :video_id and c.chunk = :chunk and c.attempt = :attempt and c.status in ('encoding', 'encoded')
  and v.video_id = c.video_id and v.status = 'processing'
  and not exists (
      select from unnest(:paths::text[]) p
      where p not in (select s.path from segments s where s.video_id = c.video_id and s.chunk = c.chunk)
  );

-- name: release_storing!
update chunks set storing_until = null where video_id = :video_id and chunk = :chunk and attempt = :attempt;

-- name: segments_stored!
-- Segments that players have seen stay visible.
update chunks c set stored_until = greatest(c.stored_until, :until::int), storing_until = null
from videos v
where c.video_id = :video_id and c.chunk = :chunk and c.attempt = :attempt and c.status in ('encoding', 'encoded')
  and v.video_id = c.video_id and v.status = 'processing';

-- name: mark_segments_stored!
update segments set is_stored = true
where video_id = :video_id and chunk = :chunk and path = any(:paths::text[]);

-- name: unstored_segments
select rendition, index, path, duration_seconds, bytes
from segments where video_id = :video_id and chunk = :chunk and not is_stored
order by index, rendition;

-- name: forget_stored_segments!
-- Their objects may be lost: store all of them again.
update segments set is_stored = false where video_id = :video_id and chunk = any(:chunks::int[]) and is_stored;

-- name: chunk_for_storing^
select v.status, v.user_id, c.status as chunk_status, c.attempt,
       greatest(extract(epoch from c.storing_until - now()), 0)::float8 as storing_left_seconds
from videos v join chunks c using (video_id)
where c.video_id = :video_id and c.chunk = :chunk;

-- name: segments_of_chunk
select rendition, index, path, duration_seconds, bytes
from segments where video_id = :video_id and chunk = :chunk
order by index, rendition;

-- name: renew_store!
update chunks c set lease_until = now() + make_interval(secs => :lease_seconds)
from videos v
where c.video_id = :video_id and c.chunk = :chunk and c.attempt = :attempt and c.status in ('encoded', 'stored')
  and v.video_id = c.video_id and v.status = 'processing';

-- name: chunk_stored!
update chunks c set status = 'stored', tries = 0, lease_until = null
from videos v
where c.video_id = :video_id and c.chunk = :chunk and c.attempt = :attempt and c.status = 'encoded'
  and v.video_id = c.video_id and v.status <> 'deleted';

-- name: choose_storage^
-- The first chunk to be stored decides where the whole video is stored.
update videos
set s3_bucket = case when storage_type is null then :s3_bucket else s3_bucket end,
    storage_id = case when storage_type is null then :storage_id else storage_id end,
    storage_type = coalesce(storage_type, :storage_type)
where video_id = :video_id and status = 'processing'
returning storage_type, s3_bucket, storage_id;

-- name: reopen_stored
-- Store chunks again whose segments are missing in storage although they were stored.
update chunks c set status = 'encoded', lease_until = null, stored_until = null, waiting_since = now()
from videos v
where c.video_id = :video_id and v.video_id = c.video_id and v.status = 'processing' and c.status = 'stored'
  and c.chunk in (
      select s.chunk from segments s join unnest(:renditions::text[], :indexes::int[]) as t (r, i)
          on s.rendition = r and s.index = i
      where s.video_id = :video_id
  )
returning c.chunk;

-- name: seconds_until_playable$
-- How long a video that was never ready has been processing; null where it was.
select extract(epoch from now() - processing_since)::float8 from videos
where video_id = :video_id and status = 'processing' and renditions = '[]';

-- name: unstored_chunks$
select count(*) from chunks where video_id = :video_id and status <> 'stored';

-- name: stored_segments
-- The segments of stored chunks, and the first ones of a chunk that is still being encoded.
select s.rendition, s.index, s.duration_seconds, s.bytes
from segments s join chunks c using (video_id, chunk)
where s.video_id = :video_id and (c.status = 'stored' or s.index <= c.stored_until)
order by s.rendition, s.index;

-- name: key_frames
select rendition, index, key_frames from segments where video_id = :video_id order by rendition, index;

-- name: stored_codecs
select codecs from chunks where video_id = :video_id and status = 'stored' order by chunk;

-- name: mark_ready!
-- Only earlier versions, which may still be running, read these URLs: records get them from the current
-- settings.
update videos
set status = 'ready', error = null, storage_type = :storage_type, s3_bucket = :s3_bucket, s3_key = :s3_key,
    s3_public_url = :s3_public_url, playlist_url = :playlist_url, thumbnail_url = :thumbnail_url,
    renditions = :renditions, bytes = :bytes, artifacts = :artifacts,
    original_removed_at = case when :removes_original::boolean then now() else original_removed_at end
where video_id = :video_id and run = :run and status = 'processing';

-- name: fail$
-- Nothing is waiting any more.
update videos
set status = 'failed', error = :error, coded_warnings = (
    select coalesce(jsonb_agg(w), '[]') from jsonb_array_elements(coded_warnings) w
    where w ->> 'code' not in ('storage_waiting', 'source_waiting')
)
where video_id = :video_id and status = 'processing' and run = :run
returning user_id;

-- name: retry!
-- Raising the attempt fences a planner of the previous run that is still active. An upload whose original was removed
-- before it was ever ready cannot be processed again; one that was ready no longer needs it.
update videos
set status = 'processing', run = run + 1, error = null, plan_attempt = plan_attempt + 1, plan_tries = 0,
    plan_lease_until = null, resumes = 0, processing_since = now(),
    auto_retries = case when :is_automatic::boolean then auto_retries + 1 else 0 end
where video_id = :video_id and status = 'failed'
  and (original_removed_at is null or renditions <> '[]' or source_uri not like 'file:%/originals/' || video_id || '/%');

-- name: failed_for
-- The next videos that failed for one reason, without those that the system has retried often enough.
select video_id from videos v
where status = 'failed' and error ->> 'reason' = :reason and video_id > :after
  and (:max_auto_retries::integer is null or auto_retries < :max_auto_retries)
  and coalesce((select s.label from storages s where s.storage_id = v.storage_id), wished_storage, 'default')
      <> all(:without::text[])
order by video_id
limit :count
for update skip locked;

-- name: forget_tries!
update chunks c set tries = 0, reopened = 0, waiting_since = now() from videos v
where c.video_id = :video_id and v.video_id = c.video_id and v.status = 'failed';

-- name: swept_at$
select swept_at from videos where video_id = :video_id;

-- name: delete!
update videos set status = 'deleted' where video_id = :video_id and status <> 'deleted';

-- name: live_leases$
select count(*) from (
    select lease_until from chunks where video_id = :video_id and status = 'encoding'
    union all select storing_until from chunks where video_id = :video_id
    union all select plan_lease_until from videos where video_id = :video_id
    union all select lease_until from storage_moves where video_id = :video_id
) leases where lease_until > now();

-- name: mark_swept!
update videos set swept_at = now() where video_id = :video_id and status = 'deleted';

-- name: purge!
-- Only a tombstone stays, so that a late event cannot restore the video.
update videos
set purged_at = now(), title = null, filename = null, source_uri = '', plan = null, former_plan = null,
    presentation = null, renditions = '[]', warnings = '{}', coded_warnings = '[]', source_report = null, error = null
where video_id = :video_id and status = 'deleted';

-- name: delete_segments!
delete from segments where video_id = :video_id;

-- name: delete_chunks!
delete from chunks where video_id = :video_id;

-- name: lock_for_event^
-- The values that decide whether an event starts a new run. Claims are kept out until the transaction ends.
select v.status, v.storage_type, v.purged_at is not null as is_purged, v.source_uri,
       :digest = any (v.event_digests)
           or (v.event_digests = '{}' and (v.status = 'deleted' or (v.user_id, v.source_uri) = (:user_id, :source_uri)))
           as is_known,
       coalesce(v.plan_lease_until > now(), false)
           or exists (select from chunks c where c.video_id = v.video_id and c.lease_until > now()) as is_held
from videos v where v.video_id = :video_id for update of v;

-- name: begin_anew!
-- Every attempt of the earlier run stays fenced off; nothing that it left is used again.
update videos
set status = 'processing', run = run + 1, error = null, user_id = :user_id, title = null, filename = :filename,
    source_uri = :source_uri, qualities = :qualities, visibility = :visibility,
    delivery = :delivery, wished_storage = :wished_storage, ladder = :ladder, event_digests = event_digests || :digest::bytea,
    plan = null, former_plan = null, presentation = null, plan_attempt = plan_attempt + 1, plan_tries = 0,
    plan_lease_until = null, thumbnail_path = null, duration_seconds = null, width = null, height = null,
    warnings = '{}', coded_warnings = '[]', source_report = null, storage_type = null, storage_id = null,
    s3_bucket = null, s3_key = null, auto_retries = 0, token_generation = token_generation + 1, s3_public_url = null, playlist_url = null, thumbnail_url = null, renditions = '[]', bytes = null, artifacts = null, resumes = 0,
    swept_at = null, purged_at = null, original_bytes = null, original_removed_at = null, processing_since = now(),
    chunk_attempts = greatest(
        chunk_attempts, coalesce((select max(attempt) from chunks c where c.video_id = :video_id), 0)
    )
where video_id = :video_id;
