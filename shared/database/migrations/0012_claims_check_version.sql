-- Transcoders from before plans had versions would fail every video whose plan they cannot read. A claim that does not
-- say that it looks at the version itself gets no chunk of such a plan: for its transcoder the chunk is another's.

alter table chunks add column if not exists checks_version boolean not null default false;  -- said by a claim, kept by none

create or replace function refuse_unversioned_claim() returns trigger language plpgsql as $$
begin
    if not new.checks_version and exists (
        select from videos v where v.video_id = new.video_id and (v.plan ->> 'version')::integer > 1
    ) then
        return null;
    end if;
    new.checks_version := false;
    return new;
end $$;
create or replace trigger refuse_unversioned_claim before update on chunks for each row
when (new.status = 'encoding' and new.attempt > old.attempt)
execute function refuse_unversioned_claim();
