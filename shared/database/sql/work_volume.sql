-- The work volume that all services share.

-- name: volume_id$
select volume_id from work_volume;

-- name: adopt!
insert into work_volume (volume_id) values (:volume_id)
on conflict (only_row) do update set volume_id = excluded.volume_id, known_since = now();

-- name: uploads
-- Some videos whose uploaded originals must be on the volume.
select video_id from videos
where status in ('processing', 'failed') and source_uri like 'file:%' || '/originals/' || video_id || '/source'
order by created_at desc
limit 20;
