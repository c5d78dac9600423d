-- Videos whose objects were in a storage before their record existed.

-- name: insert_video!
insert into videos (
    video_id, user_id, title, source_uri, visibility, status, presentation, duration_seconds, width, height, storage_type,
    s3_bucket, storage_id, s3_key, s3_public_url, playlist_url, thumbnail_url, renditions, bytes
)
values (
    :video_id, :user_id, :title, :source_uri, :visibility, 'ready', :presentation, :duration_seconds, :width, :height,
    :storage_type, :s3_bucket, :storage_id, :s3_key, :s3_public_url, :playlist_url, :thumbnail_url, :renditions, :bytes
)
on conflict (video_id) do nothing;

-- name: insert_chunk!
insert into chunks (video_id, chunk, seconds, status, progress, codecs)
values (:video_id, 0, :seconds, 'stored', 1, :codecs);
