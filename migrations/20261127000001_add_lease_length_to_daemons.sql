-- How long a lease is: one that reaches further than that was given before the clock went back. Null
-- for a daemon of an earlier version.
alter table daemon add column lease_seconds double precision check (lease_seconds > 0);
