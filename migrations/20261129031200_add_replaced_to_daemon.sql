-- Whether a daemon ended without an orderly stop (killed, crashed, or cut off from the database while it stopped), and
-- the next one on its host took its place. Of daemons before this column that is not known.
alter table daemon add replaced boolean not null default false;
alter table daemon add constraint daemon_replaced check (not replaced or stopped_at is not null);
