-- Storages and work volumes that this database knows.

-- name: is_ours$
select is_ours from storages where storage_id = :storage_id;

-- name: add!
insert into storages (storage_id, kind, name, is_ours) values (:storage_id, :kind, :name, :is_ours)
on conflict (storage_id) do nothing;

-- name: claim!
update storages set is_ours = true where storage_id = :storage_id;

-- name: count_elsewhere$
select count(*) from videos where storage_id <> :storage_id and status <> 'deleted';

-- name: location^
select storage_type, s3_bucket, storage_id from videos where video_id = :video_id and storage_type is not null;
