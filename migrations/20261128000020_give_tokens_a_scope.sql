-- What a token permits: 'read' or 'admin'. A daemon that does not know the word permits nothing.
alter table token add column scope text not null default 'admin';
-- The daemon that uses it as its own, for the command line beside it: nobody revokes it as long as that one lives.
alter table token add column kept_by uuid references daemon (id) on delete set null;
