-- Which engine has the attempt's container: only a daemon that reaches the same one can take it over.
-- Null for executors that have no engine of their own identity, and for attempts from before this.
alter table attempt add column engine text;
