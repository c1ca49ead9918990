-- Which runs of a DAG count, wait and are cancelled among themselves: the value of `concurrency.group` for the
-- run, as its DAG version says. Null where that has no group; all such runs of a DAG are one.
alter table run add column concurrency_group text;
