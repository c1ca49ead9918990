-- What keeps a daemon from working fully, as it says itself: [{"kind", "what", "since"}]. Other daemons
-- show it to people, and tell by it why queued attempts wait.
alter table daemon add column troubles jsonb not null default '[]' check (jsonb_typeof(troubles) = 'array');
