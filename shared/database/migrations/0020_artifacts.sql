-- The sizes in bytes of the files that a ready video has besides segments and playlists, by kind ({"thumbnail": 41234}).
-- Null where an earlier version finished the video: then only the thumbnail is known, by what it adds to `bytes`.
alter table videos add column artifacts jsonb;
