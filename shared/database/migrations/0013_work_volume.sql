-- Which volume WORK_DIR has to be, by the id in its marker, and how often a chunk was encoded again for lost files.

create table work_volume (
    only_row boolean primary key default true check (only_row),
    volume_id uuid not null,
    known_since timestamptz not null default now()
);

alter table chunks add column reopened integer not null default 0;  -- in this run, because its files were lost
