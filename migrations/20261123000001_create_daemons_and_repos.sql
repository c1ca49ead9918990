-- One row: this installation. Its id labels every container, so that two installations can share an engine.
create table instance (
    only_row boolean primary key default true check (only_row),
    id uuid not null default gen_random_uuid(),
    -- A known text sealed with the secret key: tells a wrong key before it does harm.
    key_check bytea,
    created_at timestamptz not null default now()
);
insert into instance default values;

-- One row for each daemon process that ever ran. Its lease covers every attempt that it owns, so a
-- heartbeat is one row written, however many attempts run.
create table daemon (
    id uuid primary key,
    host text not null,
    pid integer not null,
    version text not null,
    started_at timestamptz not null,
    lease_until timestamptz not null,
    stopped_at timestamptz
) with (fillfactor = 50);

create table repo (
    id uuid primary key,
    name text not null unique,
    url text not null,
    -- As asked for; null follows the remote's default branch.
    followed_branch text,
    -- The branch that was followed when it last moved.
    current_branch text,
    poll_seconds integer not null check (poll_seconds > 0),
    -- Sealed with the secret key.
    webhook_secret bytea,
    credentials bytea,
    created_at timestamptz not null,
    next_sync_at timestamptz not null,
    last_sync_at timestamptz,
    -- Syncs asked for by hand, counted; and up to which of them the remote was looked at since.
    syncs_asked bigint not null default 0,
    syncs_answered bigint not null default 0,
    last_error text
);

-- Where each branch was last seen. A branch that is gone keeps its row with no sha, so that its
-- generation goes on counting and a later push never repeats the key of an earlier one.
create table repo_ref (
    repo uuid not null references repo on delete cascade,
    branch text not null,
    sha text,
    generation bigint not null check (generation > 0),
    moved_at timestamptz not null,
    primary key (repo, branch)
);

create table delivery (
    id uuid primary key,
    provider text not null,
    repo uuid not null references repo on delete cascade,
    delivery_id text not null,
    event text not null,
    body bytea not null,
    -- What a push delivery tells of; no branch for all others.
    branch text,
    before text,
    after text,
    actor text,
    received_at timestamptz not null,
    processed_at timestamptz,
    result text,
    unique (provider, repo, delivery_id),
    check ((processed_at is null) = (result is null))
);
create index delivery_pending on delivery (repo, received_at) where processed_at is null;
create index delivery_received_at on delivery (received_at);

create table secret (
    repo uuid not null references repo on delete cascade,
    name text not null,
    sealed bytea not null,
    updated_at timestamptz not null,
    primary key (repo, name)
);

-- A token is 256 random bits, so its plain SHA-256 is as good as a slow hash and can be looked up.
create table token (
    id uuid primary key,
    name text not null,
    digest bytea not null unique check (length(digest) = 32),
    created_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create unique index token_name on token (name) where revoked_at is null;
