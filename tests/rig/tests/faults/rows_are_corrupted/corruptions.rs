//! The corruptions, row by row, and their effects.

/// The effect of a corruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    /// The database refuses it, and nothing has happened to its subject.
    Refused,
    /// Its subject is quarantined.
    Held,
    /// Nothing is quarantined, its subject included: the fault is reported with the row, or the subject goes on.
    Alone,
}

use Becomes::{Alone, Held, Refused};

/// What is corrupted and how, and what becomes of it. `$run`, `$dag` and `$repo` are its own.
pub(super) type Corruption = (&'static str, Becomes);

/// Of a run with a stage that runs.
pub(super) const RUNS: [Corruption; 42] = [
    (
        "update dag_version set spec = '{\"format\": 1, \"stages\": 17}' where dag = '$dag'",
        Held,
    ),
    (
        "update dag_version set spec = 'null' where dag = '$dag'",
        Refused,
    ),
    (
        "update dag_version set spec = '[]' where dag = '$dag'",
        Refused,
    ),
    (
        "update dag_version set spec = jsonb_set(spec, '{format}', '99') where dag = '$dag'",
        Held,
    ),
    (
        "update dag_version set spec = jsonb_set(spec, '{overlap}', '\"up\"') where dag = '$dag'",
        Held,
    ),
    (
        "update dag_version set spec = jsonb_set(spec, '{stages}', '[]') where dag = '$dag'",
        Held,
    ),
    ("update run set params = '[1]' where id = $run", Held),
    (
        "update run set params = '{\"p\": {\"x\": 1}}' where id = $run",
        Held,
    ),
    ("update run set phase = 'dreaming' where id = $run", Refused),
    (
        "update run set phase = 'queued', started_at = null where id = $run",
        Alone,
    ),
    ("update run set outcome = 'fine' where id = $run", Refused),
    (
        "update run set cancel_by = 'fate', cancel_at = now() where id = $run",
        Refused,
    ),
    (
        "update run set logical_time = '-infinity' where id = $run",
        Refused,
    ),
    (
        "update run set created_at = 'infinity' where id = $run",
        Refused,
    ),
    (
        "update run set started_at = '200000-01-01' where id = $run",
        Refused,
    ),
    (
        "update run set wake_at = 'infinity' where id = $run",
        Refused,
    ),
    ("update run set version = -5 where id = $run", Alone),
    ("update run set format = 99 where id = $run", Refused),
    (
        "update run set stages_finished = 17 where id = $run",
        Refused,
    ),
    (
        "update stage_run set state = 'dreaming' where run = $run",
        Refused,
    ),
    (
        "update stage_run set state = 'backing_off', until = 'infinity' where run = $run",
        Refused,
    ),
    ("update stage_run set name = '' where run = $run", Alone),
    (
        "insert into stage_run (run, position, name, state) values ($run, 9, 'x', 'waiting')",
        Held,
    ),
    ("delete from stage_run where run = $run", Alone),
    (
        "update attempt set state = 'dreaming' where run = $run",
        Refused,
    ),
    ("update attempt set fence = null where run = $run", Refused),
    ("update attempt set fence = -1 where run = $run", Alone),
    (
        "update attempt set handle = E'\\x01 no handle' where run = $run",
        Alone,
    ),
    (
        "update attempt set executor = 'nonsense' where run = $run",
        Alone,
    ),
    (
        "update attempt set engine = 'nowhere' where run = $run",
        Alone,
    ),
    (
        "update attempt set owner = gen_random_uuid() where run = $run",
        Alone,
    ),
    ("update attempt set pools = '\"x\"' where run = $run", Alone),
    (
        "update attempt set pools = '{\"\": -1}' where run = $run",
        Alone,
    ),
    ("update attempt set number = 7 where run = $run", Held),
    (
        "update attempt set stop_requested_at = now(), stop_code = 'x', stop_message = '' where run = $run",
        Alone,
    ),
    (
        "update attempt set started_at = 'infinity' where run = $run",
        Refused,
    ),
    (
        "update attempt set claimed_at = '-infinity' where run = $run",
        Refused,
    ),
    ("insert into metric values ($run, 0, 0, '', 'nan')", Held),
    (
        "insert into attempt_log values ((select id from attempt where run = $run), -5, -7, -9)
        on conflict (attempt) do update set length = -5, cursor_major = -7, cursor_minor = -9",
        Alone,
    ),
    (
        "update cause c set detail = '[]' from run r where r.cause = c.id and r.id = $run",
        Alone,
    ),
    (
        "update cause c set kind = 'fate' from run r where r.cause = c.id and r.id = $run",
        Refused,
    ),
    (
        "update cause c set commit = 'zz', branch = '' from run r where r.cause = c.id and r.id = $run",
        Alone,
    ),
];

/// Of a DAG whose schedule comes due.
pub(super) const DAGS: [Corruption; 9] = [
    (
        "update schedule set cron = 'now and then', next_tick = now() where dag = '$dag'",
        Held,
    ),
    (
        "update schedule set timezone = 'Mars/Olympus', next_tick = now() where dag = '$dag'",
        Held,
    ),
    (
        "update schedule set params = '[1]', next_tick = now() where dag = '$dag'",
        Held,
    ),
    (
        "update schedule set params = '{\"no\": {\"integer\": 1}}', next_tick = now() where dag = '$dag'",
        Held,
    ),
    (
        "update schedule set missed = 'perhaps' where dag = '$dag'",
        Refused,
    ),
    (
        "update schedule set next_tick = '-infinity' where dag = '$dag'",
        Refused,
    ),
    (
        "update schedule set position = -1 where dag = '$dag'",
        Refused,
    ),
    (
        "update dag set path = '../../x', name = E'\\n' where id = '$dag'",
        Alone,
    ),
    (
        "insert into dag_fault select repo, 'zz', E'\\n', '', '\"x\"', now() from dag where id = '$dag'",
        Alone,
    ),
];

pub(super) const REPOS: [Corruption; 14] = [
    ("update repo set url = E'\\x01://nowhere' where id = '$repo'", Alone),
    ("update repo set credentials = '\\xdead' where id = '$repo'", Held),
    ("update repo set webhook_secret = '\\xdead' where id = '$repo'", Alone),
    ("update repo set name = E'\\n' where id = '$repo'", Held),
    ("update repo set followed_branch = E'\\n', current_branch = '' where id = '$repo'", Alone),
    ("update repo set poll_seconds = 0 where id = '$repo'", Refused),
    ("update repo set last_sync_at = 'infinity' where id = '$repo'", Refused),
    ("update repo set next_sync_at = '-infinity' where id = '$repo'", Refused),
    ("update repo_ref set sha = 'zz', generation = 99 where repo = '$repo'", Alone),
    ("insert into delivery (id, provider, repo, delivery_id, event, branch, before, after, received_at)
        values (gen_random_uuid(), 'x', '$repo', '', 'x', 'main', 'zz', E'\\n', now())", Alone),
    ("insert into secret values ('$repo', E'\\n', '\\xdead', now())", Alone),
    ("insert into daemon (id, host, pid, version, started_at, lease_until, lease_seconds, troubles)
        values (gen_random_uuid(), '', -1, '', now(), now() + interval '1 hour', 3600, '[{\"x\": 1}]')", Alone),
    ("update daemon set lease_until = null", Refused),
    ("update leader set daemon = gen_random_uuid(), term = 5", Alone),
];
