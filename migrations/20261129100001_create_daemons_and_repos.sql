-- Postgres accepts timestamps that our programs cannot read: `infinity`, and years far beyond 9999. A program that
-- reads one fails, together with everything that it reads in the same statement. So each table bounds its timestamps.

-- One row: this installation. Its id labels every container, so that two installations can share a Docker engine.
create table instance (
    only_row boolean primary key default true check (only_row),
    id uuid not null default gen_random_uuid(),
    -- A known text sealed with the secret key: reveals a wrong key before it does harm.
    key_check bytea,
    created_at timestamptz not null default now()
);
insert into instance default values;

-- One row for each daemon process that ever ran. Its lease covers every attempt that it owns, so a heartbeat writes
-- one row, however many attempts run.
create table daemon (
    id uuid primary key,
    host text not null,
    pid integer not null,
    version text not null,
    started_at timestamptz not null,
    lease_until timestamptz not null,
    -- The length of its lease. A lease that reaches further was given before the clock went back.
    lease_seconds double precision not null check (lease_seconds > 0),
    stopped_at timestamptz,
    -- Whether it ended without an orderly stop (killed, crashed, or cut off from the database while it stopped), and
    -- the next daemon on its host replaced it.
    replaced boolean not null default false check (not replaced or stopped_at is not null),
    -- The problems that keep it from working fully, as it reports them: [{"kind", "what", "since"}]. Other daemons
    -- show them to people, and use them to explain why queued attempts wait.
    troubles jsonb not null default '[]' check (jsonb_typeof(troubles) = 'array'),
    -- The latest format of DAG versions and runs that it reads.
    format integer not null default 1 check (format > 0),
    constraint daemon_moments check (
        greatest(started_at, lease_until, stopped_at) < '10000-01-01 00:00+00'
        and least(started_at, lease_until, stopped_at) > '0001-01-01 00:00+00')
) with (fillfactor = 50);

-- Jobs that one daemon does for all. When a leader's lease expires or the leader stops, the first daemon that asks
-- replaces it; the term counts the replacements.
create table leader (
    role text primary key check (role in ('scheduler', 'watcher', 'pruner')),
    daemon uuid not null,
    term bigint not null check (term > 0),
    lease_until timestamptz not null,
    constraint leader_moments check (
        lease_until > '0001-01-01 00:00+00' and lease_until < '10000-01-01 00:00+00')
) with (fillfactor = 50);

create table repo (
    id uuid primary key,
    name text not null unique,
    url text not null,
    -- Counts the changes of its url and its credentials. A sync that began before one records nothing after it.
    address_number bigint not null check (address_number > 0),
    -- When the url changed last.
    address_changed_at timestamptz,
    -- As configured; null follows the remote's default branch.
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
    -- How many syncs were requested by hand, and how many of these requests a later poll of the remote has answered.
    syncs_asked bigint not null default 0,
    syncs_answered bigint not null default 0,
    last_error text,
    -- Since when its syncs have failed; null after a sync that was recorded as a whole.
    failing_since timestamptz,
    constraint repo_moments check (
        greatest(created_at, address_changed_at, next_sync_at, last_sync_at) < '10000-01-01 00:00+00'
        and least(created_at, address_changed_at, next_sync_at, last_sync_at) > '0001-01-01 00:00+00')
);

-- The last seen commit of each branch. A branch that is gone keeps its row without a sha, so that its generation
-- continues to count and a later push never repeats the key of an earlier one.
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
    -- The branch of a push delivery and its commits before and after; null for all other deliveries.
    branch text,
    before text,
    after text,
    actor text,
    received_at timestamptz not null,
    processed_at timestamptz,
    result text,
    unique (provider, repo, delivery_id),
    check ((processed_at is null) = (result is null)),
    constraint delivery_moments check (
        greatest(received_at, processed_at) < '10000-01-01 00:00+00'
        and least(received_at, processed_at) > '0001-01-01 00:00+00')
);
create index delivery_pending on delivery (repo, received_at) where processed_at is null;
create index delivery_received_at on delivery (received_at);

create table secret (
    repo uuid not null references repo on delete cascade,
    name text not null,
    sealed bytea not null,
    updated_at timestamptz not null,
    -- Patterns of the branches whose runs may have it; none means the followed branch.
    branches text[] not null default '{}' check (cardinality(branches) <= 64),
    primary key (repo, name)
);

-- A token is 256 random bits, so its plain SHA-256 is as good as a slow hash and can be looked up.
create table token (
    id uuid primary key,
    name text not null,
    digest bytea not null unique check (length(digest) = 32),
    -- What it permits: 'read' or 'admin'. A daemon that does not know the scope permits nothing.
    scope text not null default 'admin',
    -- The daemon that uses it as its own, for the command line on the same machine. It
    -- cannot be revoked while that daemon lives.
    kept_by uuid references daemon on delete set null,
    created_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create unique index token_name on token (name) where revoked_at is null;
