-- Postgres knows moments that no program of ours does: `infinity`, and years far beyond 9999. Whoever reads
-- one gives up, and with it all that is read beside it. Not validated, since that would read whole tables
-- under a lock; what is written from now on is checked all the same.
alter table daemon add constraint daemon_moments check (
    greatest(started_at, lease_until, stopped_at) < '10000-01-01 00:00+00'
    and least(started_at, lease_until, stopped_at) > '0001-01-01 00:00+00') not valid;
alter table leader add constraint leader_moments check (
    lease_until > '0001-01-01 00:00+00' and lease_until < '10000-01-01 00:00+00') not valid;
alter table repo add constraint repo_moments check (
    greatest(created_at, next_sync_at, last_sync_at) < '10000-01-01 00:00+00'
    and least(created_at, next_sync_at, last_sync_at) > '0001-01-01 00:00+00') not valid;
alter table delivery add constraint delivery_moments check (
    greatest(received_at, processed_at) < '10000-01-01 00:00+00'
    and least(received_at, processed_at) > '0001-01-01 00:00+00') not valid;
alter table schedule add constraint schedule_moments check (
    next_tick > '0001-01-01 00:00+00' and next_tick < '10000-01-01 00:00+00') not valid;
alter table run add constraint run_moments check (
    greatest(logical_time, cancel_at, created_at, started_at, finished_at, wake_at) < '10000-01-01 00:00+00'
    and least(logical_time, cancel_at, created_at, started_at, finished_at, wake_at) > '0001-01-01 00:00+00')
    not valid;
alter table stage_run add constraint stage_run_moments check (
    greatest(until, finished_at) < '10000-01-01 00:00+00'
    and least(until, finished_at) > '0001-01-01 00:00+00') not valid;
alter table attempt add constraint attempt_moments check (
    greatest(queued_at, claimed_at, started_at, deadline_at, finished_at, stop_requested_at)
        < '10000-01-01 00:00+00'
    and least(queued_at, claimed_at, started_at, deadline_at, finished_at, stop_requested_at)
        > '0001-01-01 00:00+00') not valid;
alter table quarantine add constraint quarantine_moments check (
    greatest(first_at, last_at, held_at) < '10000-01-01 00:00+00'
    and least(first_at, last_at, held_at) > '0001-01-01 00:00+00') not valid;
