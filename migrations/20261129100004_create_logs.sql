-- Where the log of an attempt ends, and up to where its executor's log was read for it.
create table attempt_log (
    attempt uuid primary key references attempt on delete cascade,
    -- Bytes ever written, before compression.
    length bigint not null,
    cursor_major bigint,
    cursor_minor bigint,
    -- Set when retention deleted the text.
    pruned_at timestamptz,
    -- What of it is not kept, in bytes before compression and in records: its middle, or all of it.
    dropped bigint not null default 0 check (dropped >= 0),
    dropped_lines bigint not null default 0 check (dropped_lines >= 0),
    check ((cursor_major is null) = (cursor_minor is null))
) with (fillfactor = 50);

create table log_chunk (
    attempt uuid not null references attempt_log on delete cascade,
    -- Bytes before compression.
    start_offset bigint not null check (start_offset >= 0),
    -- Never more than 128 KiB: a reader looks no further back for the chunk that holds its offset.
    length integer not null check (length between 1 and 131072),
    lines integer not null,
    -- zstd.
    content bytea not null,
    stored_at timestamptz not null,
    primary key (attempt, start_offset)
);
-- It is compressed already.
alter table log_chunk alter column content set storage external;
