-- Storages and work volumes that this database knows.

-- name: is_ours$
select is_ours from storages where storage_id = :storage_id;

-- name: add!
insert into storages (storage_id, kind, name, is_ours) values (:storage_id, :kind, :name, :is_ours)
on conflict (storage_id) do nothing;

-- name: claim!
update storages set is_ours = true where storage_id = :storage_id;

-- name: label!
-- A name refers to one storage: the one identified last.
update storages set label = case when storage_id = :storage_id then :label end
where (storage_id = :storage_id and label is distinct from :label) or (storage_id <> :storage_id and label = :label);

-- name: count_elsewhere$
select count(*) from videos where storage_id <> all(:storage_ids::uuid[]) and status <> 'deleted';

-- name: location^
select storage_type, s3_bucket, storage_id from videos where video_id = :video_id and storage_type is not null;

-- name: wish^
-- The values that decide where a video is stored. Its row is locked until the transaction ends.
select v.wished_storage as upload, u.storage as user, v.visibility
from videos v left join user_storages u using (user_id)
where v.video_id = :video_id for update of v;

-- name: storage_of_user$
select storage from user_storages where user_id = :user_id;

-- name: set_storage_of_user!
insert into user_storages (user_id, storage) values (:user_id, :storage)
on conflict (user_id) do update set storage = excluded.storage, updated_at = now();

-- name: clear_storage_of_user!
delete from user_storages where user_id = :user_id;
