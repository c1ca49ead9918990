-- Failures of one repo, DAG or run while others succeed: counted, and after enough of them quarantined.
create table quarantine (
    id bigint generated always as identity primary key,
    repo uuid unique references repo on delete cascade,
    dag uuid unique references dag on delete cascade,
    run bigint unique references run on delete cascade,
    subject text not null unique
        generated always as (coalesce('repo ' || repo::text, 'dag ' || dag::text, 'run ' || run::text)) stored,
    -- Where it failed: planning, scheduling, dispatch, supervision, sync.
    place text not null,
    reason text not null,
    failures integer not null check (failures > 0),
    first_at timestamptz not null,
    last_at timestamptz not null,
    -- When it was quarantined; null while failures are only counted.
    held_at timestamptz,
    check (num_nonnulls(repo, dag, run) = 1),
    constraint quarantine_moments check (
        greatest(first_at, last_at, held_at) < '10000-01-01 00:00+00'
        and least(first_at, last_at, held_at) > '0001-01-01 00:00+00')
);
