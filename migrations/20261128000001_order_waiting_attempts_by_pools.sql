-- Admission looks at those that take the same of pools apart from all others: what waits for a full pool
-- is passed by in one step, however much it is. By a hash, since a stage may name more pools than a row of
-- an index has room for.
drop index attempt_waiting;
create index attempt_waiting on attempt (coalesce(jsonb_hash_extended(pools, 0), 0), run, queued_at, stage)
    where state = 'queued';
