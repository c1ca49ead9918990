//! Listings, and that they stay quick on large tables.

use std::time::Duration;

use trainyard_core::id::RunId;
use trainyard_core::outcome::{Outcome, RunState};
use trainyard_store::{MetricFilter, RunFilter};

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_newest_first_by_dag_by_state_and_page_by_page() {
    let place = Place::new().await;
    let (a, b) = (
        place.dag(&chain("a", 1)).await,
        place.dag(&chain("b", 1)).await,
    );
    for at in 0..6 {
        place.start(if at % 2 == 0 { a } else { b }).await;
    }
    let claim = place.claim_one().await;
    finish(&place.store, &claim, bad()).await.unwrap();
    let ids = |filter: RunFilter| {
        let store = place.store.clone();
        async move {
            store
                .list_runs(&filter)
                .await
                .unwrap()
                .iter()
                .map(|run| run.id)
                .collect::<Vec<_>>()
        }
    };
    let all = RunFilter::default();
    assert_eq!(ids(all.clone()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(
        ids(RunFilter {
            dag: Some(b.0),
            ..all.clone()
        })
        .await,
        [6, 4, 2]
    );
    let failed = vec![RunState::Ended(Outcome::Failed)];
    assert_eq!(
        ids(RunFilter {
            states: failed.clone(),
            ..all.clone()
        })
        .await,
        [1]
    );
    assert_eq!(
        ids(RunFilter {
            states: failed,
            dag: Some(b.0),
            ..all.clone()
        })
        .await,
        [0; 0]
    );
    assert_eq!(
        ids(RunFilter {
            before: Some(RunId(4)),
            limit: 2,
            ..all
        })
        .await,
        [3, 2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_searched_by_repo_branch_commit_age_and_several_states() {
    let place = Place::new().await;
    let a = place.dag(&chain("a", 1)).await;
    for _ in 0..3 {
        place.start(a).await;
    }
    let claim = place.claim_one().await;
    finish(&place.store, &claim, bad()).await.unwrap();
    let all = place.store.list_runs(&RunFilter::default()).await.unwrap();
    let newest = all[0].clone();
    let repo = place.store.resolve_repo("shop").await.unwrap();
    let filter = RunFilter {
        repo: Some(repo),
        branch: newest.branch.clone(),
        commit: Some(newest.commit[..7].to_owned()),
        states: vec![RunState::Running, RunState::Ended(Outcome::Failed)],
        since: Some(all[2].created_at),
        ..RunFilter::default()
    };
    let count = async |filter: RunFilter| place.store.list_runs(&filter).await.unwrap().len();
    assert_eq!(count(filter.clone()).await, 3);
    let of_none = [
        RunFilter {
            branch: Some("other".to_owned()),
            ..filter.clone()
        },
        RunFilter {
            commit: Some("ffff".to_owned()),
            ..filter.clone()
        },
        RunFilter {
            states: vec![RunState::Queued, RunState::Ended(Outcome::Lost)],
            ..filter.clone()
        },
        RunFilter {
            since: Some(newest.created_at + chrono::Duration::seconds(1)),
            ..filter.clone()
        },
    ];
    for none in of_none {
        assert_eq!(count(none.clone()).await, 0, "{none:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_listed_over_runs_by_name() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    for value in [0.7, 0.9] {
        place.start(ids).await;
        let claim = place.claim_one().await;
        let mut end = good();
        end.metrics.insert("auc".parse().unwrap(), value);
        end.metrics.insert("loss".parse().unwrap(), f64::NAN);
        finish(&place.store, &claim, end).await.unwrap();
    }
    let filter = MetricFilter {
        name: Some("auc".into()),
        dag: Some(ids.0),
        ..MetricFilter::default()
    };
    let points = place.store.list_metrics(&filter).await.unwrap();
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    assert_eq!(values, [0.9, 0.7]);
    assert_eq!(
        (points[0].stage.as_str(), points[0].dag.as_str()),
        ("s0", "shop/a")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dags_and_repos_are_listed_with_where_they_stand() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let run = place.start(ids).await;
    let dags = place.store.list_dags(None).await.unwrap();
    assert_eq!((dags[0].name.as_str(), dags[0].active_runs), ("a", 1));
    assert_eq!(dags[0].last_run.as_ref().unwrap().id, run.0);
    let repos = place.store.list_repos().await.unwrap();
    assert_eq!(
        (repos[0].shown.name.as_str(), repos[0].shown.takes_webhooks),
        ("shop", true)
    );
}

/// On large tables, the plans of these statements must not read a whole table. They are the statements of the
/// listings and of the loops, with their parameters filled in.
const QUICK: &[(&str, &str)] = &[
    ("newest runs", "select * from run r where r.id < 9999999 order by r.id desc limit 50"),
    (
        "runs of a DAG",
        "select * from run r where r.dag = (select id from dag where name = 'd7') and r.id < 9999999
            order by r.id desc limit 50",
    ),
    ("runs in a state", "select * from run r where r.state = 'failed' and r.id < 9999999 order by r.id desc limit 50"),
    ("due runs", "select id from run where wake_at <= clock_timestamp() order by wake_at limit 10"),
    (
        "what waiting attempts take of pools",
        "select pools from attempt where state = 'queued' and coalesce(jsonb_hash_extended(pools, 0), 0) > 7
            order by coalesce(jsonb_hash_extended(pools, 0), 0) limit 1",
    ),
    (
        "runs with waiting attempts",
        "select run from attempt where state = 'queued' and coalesce(jsonb_hash_extended(pools, 0), 0) = 7 and run > 7
            order by run limit 1",
    ),
    (
        "waiting attempts",
        "select id from attempt where state = 'queued' and coalesce(jsonb_hash_extended(pools, 0), 0) = 7 and run = 7
            order by queued_at, stage limit 8",
    ),
    ("held attempts of a daemon", "select id from attempt where owner = gen_random_uuid() and state in ('claimed', 'running')"),
    ("held attempts of a run", "select id from attempt where run = any('{7}') and state in ('claimed', 'running')"),
    ("unfinished runs of a DAG", "select id from run where dag = gen_random_uuid() and phase <> 'finished' order by id"),
    ("history", "select * from run_event e where e.run = 7 and e.id > 0 order by e.id limit 100"),
    ("unremoved", "select id from attempt where state = 'finished' and not removed and finished_at <= now() order by finished_at limit 10"),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_listing_and_no_loop_reads_a_whole_table() {
    let place = Place::new().await;
    place
        .sql(
            "insert into dag (id, repo, name, path, created_at)
                select gen_random_uuid(), (select id from repo), 'd' || n, 'dags/' || n, now()
                from generate_series(0, 49) n;
             insert into dag_version select gen_random_uuid(), id, 'c0', path, '', '{\"format\": 1}', now() from dag;
             insert into cause (id, dag, kind, detail, commit, summary, recorded_at)
                select gen_random_uuid(), v.dag, 'manual', '{}', 'c0', '', now()
                from dag_version v, generate_series(1, 600);
             insert into run (dag, dag_version, cause, params, logical_time, phase, outcome, stages_total,
                    stages_finished, stages_failed, created_at, started_at, finished_at)
                select c.dag, v.id, c.id, '{}', now(), 'finished',
                    case when random() < 0.02 then 'failed' else 'succeeded' end, 1, 1, 0, now(), now(), now()
                from cause c join dag_version v on v.dag = c.dag;
             insert into stage_run (run, position, name, state, outcome, finished_at)
                select id, 0, 's0', 'finished', 'succeeded', now() from run;
             insert into attempt (id, repo, run, stage, number, state, outcome, queued_at, finished_at, removed)
                select gen_random_uuid(), d.repo, r.id, 0, 1, 'finished', 'succeeded', now(), now(), true
                from run r join dag d on d.id = r.dag;
             insert into run_event (run, at, kind) select id, now(), 'run_finished' from run;
             analyze;",
        )
        .await;
    for (name, statement) in QUICK {
        let explain: &'static str = Box::leak(format!("explain {statement}").into_boxed_str());
        let plan: Vec<String> = sqlx::query_scalar(explain)
            .fetch_all(&place.raw)
            .await
            .unwrap();
        let whole = plan.iter().find(|line| {
            ["run", "attempt", "run_event"]
                .iter()
                .any(|table| line.contains(&format!("Seq Scan on {table}")))
        });
        assert_eq!(whole, None, "{name}:\n{}", plan.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_do_not_wait_until_the_work_is_done() {
    let place = Place::with(|options| {
        options.max_connections = 2;
        // A blocked statement waits for longer than the test.
        for timeout in [
            &mut options.acquire_timeout,
            &mut options.statement_timeout,
            &mut options.lock_timeout,
        ] {
            *timeout = Duration::from_secs(3_600);
        }
    })
    .await;
    let (dag, version) = place.dag(&chain("train", 1)).await;
    // All work on the database is blocked, and there is more of it than there are connections.
    let mut held = place.raw.begin().await.unwrap();
    sqlx::raw_sql("lock table cause in access exclusive mode")
        .execute(&mut *held)
        .await
        .unwrap();
    let starting: Vec<_> = (0..4)
        .map(|_| {
            let (store, new) = (place.store.clone(), manual(dag, version, None));
            tokio::spawn(async move { store.start_run(&ada(), &new).await })
        })
        .collect();
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock'";
    let all_wait = async { while place.count(waiting).await < 2 {} };
    tokio::time::timeout(Duration::from_secs(300), all_wait)
        .await
        .unwrap();
    let looked = tokio::time::timeout(Duration::from_secs(300), place.store.list_dags(None)).await;
    assert_eq!(looked.unwrap().unwrap().len(), 1);
    held.rollback().await.unwrap();
    for started in starting {
        started.await.unwrap().unwrap();
    }
}
