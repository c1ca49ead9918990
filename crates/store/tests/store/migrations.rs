//! The migrations themselves.

use sqlx::PgPool;
use sqlx::migrate::Migrator;
use trainyard_store::{Store, StoreOptions};

use crate::kit::*;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Rows of a database in use, by the version after which they are written. Every table that has rows in production
/// has some here, so that a later migration meets them.
const SAMPLES: &[(i64, &str)] = &[
    (
        20_261_129_100_001,
        "insert into daemon (id, host, pid, version, started_at, lease_until, lease_seconds, troubles)
            values ('00000000-0000-7000-8000-000000000001', 'host', 1, '0', now(), now(), 15,
                '[{\"kind\": \"engine\", \"what\": \"x\", \"since\": \"2026-11-25T00:00:00Z\"}]');
         insert into leader values ('watcher', '00000000-0000-7000-8000-000000000001', 1, now());
         insert into repo (id, name, url, address_number, poll_seconds, created_at, next_sync_at)
            values ('00000000-0000-7000-8000-000000000002', 'shop', 'file:///x', 1, 60, now(), now());
         insert into repo_ref values ('00000000-0000-7000-8000-000000000002', 'main', 'c0', 1, now());
         insert into delivery (id, provider, repo, delivery_id, event, received_at)
            values ('00000000-0000-7000-8000-000000000003', 'github', '00000000-0000-7000-8000-000000000002',
                'd1', 'push', now());
         insert into secret (repo, name, sealed, updated_at, branches)
            values ('00000000-0000-7000-8000-000000000002', 'DSN', '\\x00', now(), '{main,release/*}');
         insert into token (id, name, digest, scope, kept_by, created_at)
            values ('00000000-0000-7000-8000-000000000004', 'laptop', sha256('x'), 'read',
                '00000000-0000-7000-8000-000000000001', now());",
    ),
    (
        20_261_129_100_002,
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
        20_261_129_100_003,
        "insert into cause (id, key, dag, kind, detail, commit, summary, recorded_at)
            values ('00000000-0000-7000-8000-000000000007', 'k', '00000000-0000-7000-8000-000000000005', 'manual',
                '{}', 'c0', '', now());
         insert into run (dag, dag_version, cause, params, logical_time, phase, concurrency_group, stages_total, stages_finished,
                stages_failed, created_at, started_at)
            values ('00000000-0000-7000-8000-000000000005', '00000000-0000-7000-8000-000000000006',
                '00000000-0000-7000-8000-000000000007', '{}', now(), 'running', 'main', 1, 0, 0, now(), now());
         insert into stage_run (run, position, name, state) values (1, 0, 'only', 'active');
         insert into attempt (id, repo, run, stage, number, state, owner, executor, engine, fence, notes,
                replaced_bytes, queued_at, claimed_at)
            values ('00000000-0000-7000-8000-000000000008', '00000000-0000-7000-8000-000000000002', 1, 0, 1, 'claimed',
                '00000000-0000-7000-8000-000000000001', 'docker', 'ABCD:EFGH', 1, 'a note', 3, now(), now());
         insert into stage_run (run, position, name, state) values (1, 1, 'other', 'active');
         insert into attempt (id, repo, run, stage, number, state, pools, queued_at)
            values ('00000000-0000-7000-8000-000000000009', '00000000-0000-7000-8000-000000000002', 1, 1, 1, 'queued',
                '{\"gpu\": 1}', now());
         insert into run_event (run, at, kind) values (1, now(), 'run_started');
         insert into metric values (1, 0, 1, 'auc', 0.9);
         insert into artifact values (1, 0, 'model', '00000000-0000-7000-8000-000000000008', 'file',
            repeat('ab', 32), 3, now());",
    ),
    (
        20_261_129_100_004,
        "insert into attempt_log values ('00000000-0000-7000-8000-000000000008', 3, 1, 0, null, 2, 1);
         insert into log_chunk values ('00000000-0000-7000-8000-000000000008', 0, 3, 1, '\\x00', now());",
    ),
    (
        20_261_129_100_005,
        "insert into quarantine (dag, place, reason, failures, first_at, last_at, held_at)
            values ('00000000-0000-7000-8000-000000000005', 'scheduling', 'why', 1, now(), now(), now());",
    ),
    (
        20_261_129_210_001,
        "insert into audit (at, principal_kind, principal_id, principal, peer, action, subject, repo, detail)
            values (now(), 'token', '00000000-0000-7000-8000-000000000004', 'laptop', '192.0.2.1', 'secret.set', 'DSN',
                'shop', '{}');",
    ),
    (20_261_129_220_001, ""),
    (20_261_129_220_002, ""),
    (20_261_129_230_001, ""),
];

/// A database that was in use after each of the migrations.
async fn migrated_in_use() -> (String, PgPool) {
    let url = empty_database();
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
    (url, pool)
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_apply_one_by_one_over_a_database_in_use() {
    let (url, _) = migrated_in_use().await;
    Store::connect(&StoreOptions::new(url))
        .await
        .unwrap()
        .migrate()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_has_sample_rows() {
    let (_, pool) = migrated_in_use().await;
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
async fn the_content_of_artifacts_of_earlier_versions_has_an_owner() {
    let (_, pool) = migrated_in_use().await;
    let blobs: Vec<(String, i64, i64)> =
        sqlx::query_as("select sha256, size, run from blob join blob_reference using (sha256)")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(blobs, [("ab".repeat(32), 3, 1)]);
}

/// Otherwise the sweep would try to delete content that such a table refers to, and fail.
#[tokio::test(flavor = "multi_thread")]
async fn every_table_that_refers_to_blobs_is_asked_for_references() {
    let place = Place::new().await;
    let unasked = place
        .count(
            "select count(*) from pg_constraint c
             where contype = 'f' and confrelid = 'blob'::regclass and not exists (
                select from information_schema.view_column_usage
                where view_name = 'blob_reference' and table_name = c.conrelid::regclass::text)",
        )
        .await;
    assert_eq!(unasked, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_build_before_the_first_release_is_refused_in_words() {
    let place = Place::new().await;
    place
        .sql("update _sqlx_migrations set checksum = '\\x00'")
        .await;
    let error = place.another().await.migrate().await.unwrap_err();
    assert!(
        error.to_string().contains("no released Trainyard has"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_can_migrate_at_the_same_time() {
    let url = empty_database();
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
