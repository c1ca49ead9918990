//! Formats: a daemon leaves alone what a newer one wrote in a format that it does not read, and goes on with the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use trainyard_core::id::{DagVersionId, RunId};
use trainyard_core::overlap::Overlap;
use trainyard_store::{CancelFilter, ClaimCapacity, Error, PushRecorded, Role, RunFilter, Store};

use crate::kit::*;
use crate::pushes::{file, push, scheduled};

/// Makes every version of a DAG one of a later format, with a key that no version has.
const LATER_DAG: &str =
    "update dag_version v set spec = spec || '{\"format\": 2, \"of_the_next_format\": {}}'
    from dag d where d.id = v.dag and d.name = 'later'";

/// Makes every run of that DAG as a newer daemon would have made it.
const LATER_RUNS: &str = "alter table run disable trigger run_format_is_fixed;
    update run r set format = 2 from dag d where d.id = r.dag and d.name = 'later';
    alter table run enable trigger run_format_is_fixed";

/// A run of a later format, a run that every daemon reads, and a daemon that has read neither.
async fn mixed() -> (Place, Store, RunId, RunId) {
    let place = Place::new().await;
    let later = place.start(place.dag(&chain("later", 2)).await).await;
    let well = place.start(place.dag(&chain("well", 2)).await).await;
    place.sql(LATER_DAG).await;
    place.sql(LATER_RUNS).await;
    let store = place.another().await;
    (place, store, later, well)
}

fn runs(claims: &[trainyard_store::Claim]) -> Vec<RunId> {
    claims.iter().map(|claim| claim.run.facts.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_later_format_is_left_alone_and_the_others_go_on() {
    let (place, store, later, well) = mixed().await;
    place.sql("update run set wake_at = now()").await;
    assert_eq!(store.due_runs(10).await.unwrap(), [well]);
    assert_eq!(store.next_wake().await.unwrap().left, 1);
    let claims = store.claim(&place.request(8)).await.unwrap();
    assert_eq!(runs(&claims), [well]);
    let next = store
        .finish_attempt(finished(&claims[0], good()), Some(place.request(8)))
        .await
        .unwrap();
    assert_eq!(runs(&next.claims), [well]);

    for error in [
        store.advance(later, &[]).await.unwrap_err(),
        store
            .run_detail(later, &ClaimCapacity::default())
            .await
            .unwrap_err(),
        store.cancel_run(&ada(), later).await.unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                Error::LaterFormat {
                    format: 2,
                    known: 1,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(!error.is_transient());
        let said = error.to_string();
        assert!(
            said.contains(&format!("run {later}")) && said.contains("upgrade"),
            "{said}"
        );
    }
    assert_eq!(store.quarantined().await.unwrap(), []);
    assert_eq!(place.count("select count(*) from quarantine").await, 0);
    let untouched =
        "select count(*) from attempt where run = 1 and (state <> 'queued' or fence is not null)";
    assert_eq!(place.count(untouched).await, 0);
    assert_eq!(store.check_invariants().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_a_later_format_is_adopted_by_newer_daemons_only() {
    let place = Place::new().await;
    place.start(place.dag(&chain("later", 1)).await).await;
    let well = place.start(place.dag(&chain("well", 1)).await).await;
    assert_eq!(place.claim(8).await.len(), 2);
    place.sql(LATER_DAG).await;
    place.sql(LATER_RUNS).await;
    place.store.stop_daemon(place.daemon).await.unwrap();
    let store = place.another().await;
    let heir = request(register(&store, "heir").await, 8);
    let adopted = store.adoptable(&heir, &[], Duration::ZERO, &[]).await;
    assert_eq!(runs(&adopted.unwrap()), [well]);
    let owner = "select count(*) from attempt a join daemon d on d.id = a.owner where a.run = 1 and d.host = 'here'";
    assert_eq!(place.count(owner).await, 1);
    assert_eq!(store.quarantined().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_of_a_run_never_changes() {
    let (place, ..) = mixed().await;
    let error = sqlx::raw_sql("update run set format = 1")
        .execute(&place.raw)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("format of run 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_of_a_later_format_waits_for_a_newer_daemon() {
    let place = Place::new().await;
    let files = ["later", "well"].map(|name| file(&scheduled(name, "0 3 * * *")));
    let mut seen = push(None, '1', files.to_vec());
    seen.matches.clear();
    let recorded = place.store.record_push(place.repo, FIRST_ADDRESS, seen);
    assert!(matches!(
        recorded.await.unwrap(),
        PushRecorded::Recorded { .. }
    ));
    place.sql(LATER_DAG).await;
    place.sql("update schedule set next_tick = now()").await;
    let store = place.another().await;
    let report = store.fire_due_schedules().await.unwrap();
    assert_eq!((report.fired, report.passed_over), (1, 0));
    let runs = store.list_runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs[0].dag, "shop/well");
    assert_eq!(
        place
            .count("select count(*) from schedule where next_tick <= now()")
            .await,
        1
    );
    assert_eq!(store.quarantined().await.unwrap(), []);

    // Users see why.
    let dags = store.list_dags(None).await.unwrap();
    let shown: Vec<_> = dags
        .iter()
        .map(|dag| (dag.name.as_str(), dag.later_format))
        .collect();
    assert_eq!(shown, [("later", Some(2)), ("well", None)]);
    let later = store.resolve_dag("later").await.unwrap();
    let version = sqlx::query_scalar("select id from dag_version where dag = $1")
        .bind(later.0)
        .fetch_one(&place.raw)
        .await
        .unwrap();
    for error in [
        store.current_version(later).await.map(drop).unwrap_err(),
        store
            .dag_detail(later, &BTreeMap::new())
            .await
            .map(drop)
            .unwrap_err(),
        store
            .start_run(&ada(), &manual(later, DagVersionId(version), None))
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::LaterFormat { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_concurrency_rule_of_a_later_format_is_left_to_newer_daemons() {
    let place = Place::new().await;
    let ids = place.dag(&limited("later", Overlap::Queue)).await;
    place.start(ids).await;
    let waiting = place.start(ids).await;
    place.sql(LATER_DAG).await;
    place.sql(LATER_RUNS).await;
    let store = place.another().await;
    store.judge_overlap(ids.0).await.unwrap();
    let summary = store.run_summary(waiting).await.unwrap();
    assert_eq!(summary.state.as_str(), "queued");
    assert_eq!(store.quarantined().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_all_runs_leaves_those_of_a_later_format_and_then_says_so() {
    let (place, store, later, well) = mixed().await;
    let filter = CancelFilter {
        repo: place.repo,
        dag: None,
        before: None,
        limit: 10,
    };
    let cancelled = store.cancel_runs(&ada(), &filter).await.unwrap();
    assert_eq!((cancelled.runs, cancelled.more), (vec![well], false));
    let error = store.cancel_runs(&ada(), &filter).await.unwrap_err();
    assert!(
        error.to_string().contains(&format!("run {later}")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_cause_and_a_reason_of_a_newer_version_is_listed() {
    let (place, store, later, _) = mixed().await;
    place
        .sql(
            "alter table cause drop constraint cause_kind_check;
             update cause c set kind = 'tag', detail = '{\"tag\": {}}' from run r where r.cause = c.id and r.id = 1;
             update run set phase = 'finished', outcome = 'errored', wake_at = null, finished_at = now(),
                reason_code = 'of_the_next_format', reason_message = 'why' where id = 1",
        )
        .await;
    let listed = store.list_runs(&RunFilter::default()).await.unwrap();
    let run = listed.iter().find(|run| run.id == later.0).unwrap();
    assert_eq!((&*run.cause.kind, &*run.cause.summary), ("tag", "tag"));
    let reason = run.reason.as_ref().unwrap();
    assert_eq!((&*reason.code, &*reason.message), ("unknown", "why"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_daemon_leads_in_place_of_an_older_one() {
    let place = Place::new().await;
    let newer = register(&place.store, "there").await;
    assert_eq!(
        place.store.lead(place.daemon, LEASE).await.unwrap().len(),
        Role::ALL.len()
    );
    assert!(place.store.lead(newer, LEASE).await.unwrap().is_empty());
    // A daemon that reads fewer formats: there is no version before this one.
    place
        .sql(
            "alter table daemon drop constraint daemon_format_check;
             update daemon set format = 0 where host = 'here'",
        )
        .await;
    assert_eq!(
        place.store.lead(newer, LEASE).await.unwrap().len(),
        Role::ALL.len()
    );
    place
        .sql(
            "alter table leader drop constraint leader_role_check;
             insert into leader select 'services', id, 1, now() + interval '1 hour' from daemon where host = 'there'",
        )
        .await;
    let daemons = place.store.list_daemons().await.unwrap();
    let leads = daemons
        .iter()
        .find(|view| view.id == newer.to_string())
        .unwrap()
        .leads
        .len();
    assert_eq!(
        leads,
        Role::ALL.len(),
        "a role of a newer version is left out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_the_format_of_its_version() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let formats =
        "select v.format || ' ' || r.format from run r join dag_version v on v.id = r.dag_version";
    assert_eq!(place.text(formats).await, "1 1");
}
