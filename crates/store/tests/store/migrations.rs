//! The migrations themselves.

use sqlx::PgPool;
use sqlx::migrate::Migrator;
use trainyard_store::{Store, StoreOptions};

use crate::kit::*;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Rows that stand for a database in use, by the version after which they are written. Every table
/// that has rows in production has some here, so that a later migration meets them.
const SAMPLES: &[(i64, &str)] = &[
    (
        20_261_123_000_001,
        "insert into daemon values ('00000000-0000-7000-8000-000000000001', 'host', 1, '0', now(), now());
         insert into repo (id, name, url, poll_seconds, created_at, next_sync_at)
            values ('00000000-0000-7000-8000-000000000002', 'shop', 'file:///x', 60, now(), now());
         insert into repo_ref values ('00000000-0000-7000-8000-000000000002', 'main', 'c0', 1, now());
         insert into delivery (id, provider, repo, delivery_id, event, body, received_at)
            values ('00000000-0000-7000-8000-000000000003', 'github', '00000000-0000-7000-8000-000000000002',
                'd1', 'push', '{}', now());
         insert into secret values ('00000000-0000-7000-8000-000000000002', 'DSN', '\\x00', now());
         insert into token (id, name, digest, created_at)
            values ('00000000-0000-7000-8000-000000000004', 'laptop', sha256('x'), now());",
    ),
    (
        20_261_123_000_002,
        "insert into dag (id, repo, name, path, created_at)
            values ('00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000002', 'a',
                'dags/a.yaml', now());
         insert into dag_version values ('00000000-0000-7000-8000-000000000006',
            '00000000-0000-7000-8000-000000000005', 'c0', 'dags/a.yaml', 'stages: {}', '{\"format\": 1}', now());
         update dag set current_version = '00000000-0000-7000-8000-000000000006';
         insert into dag_fault values ('00000000-0000-7000-8000-000000000002', 'c0', 'dags/b.yaml', 'main', '[]', now());
         insert into schedule values ('00000000-0000-7000-8000-000000000005', 0,
            '00000000-0000-7000-8000-000000000006', '@daily', 'UTC', 'last', '{}', now());",
    ),
    (
        20_261_123_000_003,
        "insert into cause (id, key, dag, kind, detail, commit, summary, recorded_at)
            values ('00000000-0000-7000-8000-000000000007', 'k', '00000000-0000-7000-8000-000000000005', 'manual',
                '{}', 'c0', '', now());
         insert into run (dag, dag_version, cause, params, logical_time, phase, stages_total, stages_finished,
                stages_failed, created_at, started_at)
            values ('00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000006',
                '00000000-0000-7000-8000-000000000007', '{}', now(), 'running', 1, 0, 0, now(), now());
         insert into stage_run (run, position, name, state) values (1, 0, 'only', 'active');
         insert into attempt (id, run, stage, number, state, owner, executor, fence, queued_at, claimed_at)
            values ('00000000-0000-7000-8000-000000000008', 1, 0, 1, 'claimed',
                '00000000-0000-7000-8000-000000000001', 'docker', 1, now(), now());
         insert into run_event (run, at, kind) values (1, now(), 'run_started');
         insert into metric values (1, 0, 1, 'auc', 0.9);
         insert into artifact values (1, 0, 'model', '00000000-0000-7000-8000-000000000008', 'file',
            repeat('ab', 32), 3, now());",
    ),
    (
        20_261_123_000_004,
        "insert into attempt_log values ('00000000-0000-7000-8000-000000000008', 3, 1, 0, null);
         insert into log_chunk values ('00000000-0000-7000-8000-000000000008', 0, 3, 1, '\\x00', now());",
    ),
    (
        20_261_124_000_001,
        "insert into leader values ('watcher', '00000000-0000-7000-8000-000000000001', 1, now());",
    ),
    (
        20_261_124_000_002,
        "update attempt set engine = 'ABCD:EFGH' where id = '00000000-0000-7000-8000-000000000008';",
    ),
    (
        20_261_125_000_001,
        "insert into quarantine (dag, place, reason, failures, first_at, last_at, held_at)
            values ('00000000-0000-7000-8000-000000000005', 'scheduling', 'why', 1, now(), now(), now());",
    ),
    (
        20_261_125_000_007,
        "update daemon set troubles = '[{\"kind\": \"engine\", \"what\": \"x\", \"since\": \"2026-11-25T00:00:00Z\"}]';",
    ),
    (20_261_127_000_001, "update daemon set lease_seconds = 15;"),
    (
        20_261_127_000_002,
        "update attempt set queued_at = now() - interval '1 s';",
    ),
    (
        20_261_128_000_001,
        "insert into stage_run (run, position, name, state) values (1, 1, 'other', 'active');
         insert into attempt (id, run, stage, number, state, pools, queued_at)
            values ('00000000-0000-7000-8000-000000000009', 1, 1, 1, 'queued', '{\"gpu\": 1}', now());",
    ),
    (
        20_261_128_000_002,
        "update secret set branches = '{main,release/*}';",
    ),
    (
        20_261_128_000_020,
        "update token set scope = 'read', kept_by = '00000000-0000-7000-8000-000000000001';",
    ),
    (
        20_261_128_201_800,
        "insert into stage_run (run, position, name, state) values (1, 2, 'of an earlier daemon', 'active');
         insert into attempt (id, run, stage, number, state, queued_at)
            values ('00000000-0000-7000-8000-00000000000a', 1, 2, 1, 'queued', now());",
    ),
    (
        20_261_128_205_631,
        "update attempt set notes = 'a note' where id = '00000000-0000-7000-8000-000000000008';",
    ),
    (
        20_261_128_205_700,
        "update run set concurrency_group = 'main' where id = 1;",
    ),
    (
        20_261_128_235_100,
        "update attempt set replaced_bytes = 3 where id = '00000000-0000-7000-8000-000000000008';",
    ),
    (
        20_261_129_000_930,
        "update attempt_log set dropped = 2, dropped_lines = 1;",
    ),
    (
        20_261_129_002_800,
        "update repo set failing_since = now(), last_error = 'no route to host';",
    ),
    (
        20_261_129_031_200,
        "update daemon set replaced = true where stopped_at is not null;",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn migrations_apply_one_by_one_over_a_database_in_use() {
    let url = empty_database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    for migration in MIGRATOR.iter() {
        MIGRATOR.run_to(migration.version, &pool).await.unwrap();
        let samples = SAMPLES
            .iter()
            .find(|(version, _)| *version == migration.version);
        let (_, rows) = samples
            .unwrap_or_else(|| panic!("migration {} has no sample rows here", migration.version));
        sqlx::raw_sql(*rows).execute(&pool).await.unwrap();
    }
    Store::connect(&StoreOptions::new(url))
        .await
        .unwrap()
        .migrate()
        .await
        .unwrap();
    let repos = "select count(distinct repo) || ' of ' || count(repo) from attempt";
    let repos: String = sqlx::query_scalar(repos).fetch_one(&pool).await.unwrap();
    assert_eq!(
        repos, "1 of 3",
        "each attempt has its repo, whoever wrote it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_has_sample_rows() {
    let url = empty_database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    MIGRATOR.run(&pool).await.unwrap();
    for (_, rows) in SAMPLES {
        sqlx::raw_sql(*rows).execute(&pool).await.unwrap();
    }
    let empty: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables
         where table_schema = 'public' and table_type = 'BASE TABLE'
            and (xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %I', table_name),
                false, true, '')))[1]::text = '0'",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(empty, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_can_migrate_at_the_same_time() {
    let url = empty_database().await;
    let migrating = (0..4).map(|_| {
        let options = StoreOptions::new(url.clone());
        tokio::spawn(async move { Store::connect(&options).await.unwrap().migrate().await })
    });
    for migrated in migrating.collect::<Vec<_>>() {
        migrated.await.unwrap().unwrap();
    }
    let store = Store::connect(&StoreOptions::new(url)).await.unwrap();
    let instance = store.instance().await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.instance().await.unwrap(), instance);
}
