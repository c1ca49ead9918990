-- The end of an attempt's log, and the position in its executor's log up to which that was read.
create table attempt_log (
    attempt uuid primary key references attempt on delete cascade,
    -- Bytes ever written, before compression.
    length bigint not null,
    cursor_major bigint,
    cursor_minor bigint,
    -- When retention deleted the text.
    pruned_at timestamptz,
    -- How much of it is not kept (its middle, or all of it), in bytes before compression and in records.
    dropped bigint not null default 0 check (dropped >= 0),
    dropped_lines bigint not null default 0 check (dropped_lines >= 0),
    check ((cursor_major is null) = (cursor_minor is null))
) with (fillfactor = 50);

create table log_chunk (
    attempt uuid not null references attempt_log on delete cascade,
    -- Bytes before compression.
    start_offset bigint not null check (start_offset >= 0),
    -- At most 128 KiB: a reader searches no further back for the chunk that contains its offset.
    length integer not null check (length between 1 and 131072),
    lines integer not null,
    -- zstd.
    content bytea not null,
    stored_at timestamptz not null,
    primary key (attempt, start_offset)
);
-- The content is compressed already.
alter table log_chunk alter column content set storage external;
