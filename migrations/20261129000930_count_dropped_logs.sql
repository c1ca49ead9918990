-- What of a log is not kept, in bytes before compression and in records: its middle, or all of it.
alter table attempt_log
    add column dropped bigint not null default 0 check (dropped >= 0),
    add column dropped_lines bigint not null default 0 check (dropped_lines >= 0);

-- Of logs that were cut before this, the lines are not known any more.
update attempt_log l set dropped = l.length - kept.length
from (select attempt, sum(length) as length from log_chunk group by attempt) kept
where kept.attempt = l.attempt and kept.length < l.length;
update attempt_log set dropped = length where pruned_at is not null;
