create table dag (
    id uuid primary key,
    repo uuid not null references repo on delete cascade,
    name text not null,
    path text not null,
    paused boolean not null default false,
    -- The version at the head of the followed branch; null for a DAG that the branch does not have, or no longer has.
    current_version uuid,
    created_at timestamptz not null,
    unique (repo, name)
);
create index dag_name on dag (name);

create table dag_version (
    id uuid primary key,
    dag uuid not null references dag on delete cascade,
    commit text not null,
    path text not null,
    -- The file's text, as its author wrote it.
    source text not null,
    -- The checked DAG in its canonical form, which contains the number of its format.
    spec jsonb not null,
    created_at timestamptz not null,
    -- The lowest format that can express the DAG. A daemon that does not read it leaves the version to the others.
    format integer not null generated always as ((spec ->> 'format')::integer) stored check (format > 0),
    unique (dag, commit)
);
alter table dag add foreign key (current_version) references dag_version;

-- A file with errors, at a commit.
create table dag_fault (
    repo uuid not null references repo on delete cascade,
    commit text not null,
    path text not null,
    branch text not null,
    diagnostics jsonb not null,
    found_at timestamptz not null,
    primary key (repo, commit, path)
);

create table schedule (
    dag uuid not null references dag on delete cascade,
    position integer not null check (position >= 0),
    dag_version uuid not null references dag_version,
    cron text not null,
    timezone text not null,
    missed text not null check (missed in ('none', 'last', 'all')),
    params jsonb not null,
    -- Null: it never ticks again.
    next_tick timestamptz,
    primary key (dag, position),
    constraint schedule_moments check (
        next_tick > '0001-01-01 00:00+00' and next_tick < '10000-01-01 00:00+00')
);
create index schedule_next_tick on schedule (next_tick) where next_tick is not null;
-- The next tick of each DAG, for listings.
create index schedule_dag_next_tick on schedule (dag, next_tick);
create index schedule_dag_version on schedule (dag_version);
