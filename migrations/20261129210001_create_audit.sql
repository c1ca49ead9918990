-- One row for each change that a principal made, written in the transaction of the change. Without foreign keys: a row
-- has the names of its time, and outlives the repo, the DAG, the run and the token that it names.
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    -- 'user', 'token' or 'daemon'.
    principal_kind text not null,
    -- Distinguishes principals of one name.
    principal_id text not null,
    principal text not null,
    -- The address that the request came from; null for changes by a local process.
    peer text,
    -- What was done, as the command line says it: 'secret.set'.
    action text not null,
    -- To what: a name or a number as the command line takes it. Null where the action has none.
    subject text,
    -- The repo that it belongs to.
    repo text,
    -- What else is to be known of the change; never the value of a secret.
    detail jsonb not null check (jsonb_typeof(detail) = 'object'),
    constraint audit_moments check (at > '0001-01-01 00:00+00' and at < '10000-01-01 00:00+00')
);
create index audit_at on audit (at);
create index audit_repo on audit (repo, id desc);
