-- Jobs that one daemon does for all. A leader whose time is over, or who has stopped, is replaced by
-- whoever asks first; the term says how often that happened.
create table leader (
    role text primary key check (role in ('scheduler', 'watcher', 'pruner')),
    daemon uuid not null,
    term bigint not null check (term > 0),
    lease_until timestamptz not null
) with (fillfactor = 50);
