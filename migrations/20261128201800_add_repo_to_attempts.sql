-- Admission goes by repo: the one that holds the fewest slots is served first, and however much one has
-- waiting hides nothing of the others. So each attempt carries its repo, which never changes, and the index
-- of those that wait has them apart. What has ended is not asked for it. Without a foreign key: repos are
-- removed with their runs, and attempts are written too often to be checked each time.
alter table attempt add column repo uuid;
update attempt a set repo = d.repo from run r join dag d on d.id = r.dag where r.id = a.run and a.state <> 'finished';
alter table attempt add constraint attempt_repo check (state = 'finished' or repo is not null) not valid;

-- For a daemon of an earlier version beside this one, which does not know the column.
create function find_repo_of_attempt() returns trigger language plpgsql as $$
begin
    new.repo := (select d.repo from run r join dag d on d.id = r.dag where r.id = new.run);
    return new;
end $$;
create trigger attempt_has_repo before insert on attempt for each row
    when (new.repo is null) execute function find_repo_of_attempt();

drop index attempt_waiting;
create index attempt_waiting
    on attempt (coalesce(jsonb_hash_extended(pools, 0), 0), repo, run, queued_at, stage)
    where state = 'queued';
