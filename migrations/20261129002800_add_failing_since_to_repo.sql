-- Since when the syncs of a repo have failed; null after a sync that was recorded as a whole.
alter table repo add column failing_since timestamptz;
