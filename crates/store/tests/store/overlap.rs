//! Concurrency rules of DAGs.

use std::collections::BTreeMap;

use trainyard_core::dag::Dag;
use trainyard_core::event::Event;
use trainyard_core::expression::Template;
use trainyard_core::id::{DagId, DagVersionId, RunId};
use trainyard_core::outcome::{Outcome, RunState};
use trainyard_core::overlap::Overlap;
use trainyard_core::run::CancelledBy;
use trainyard_store::Recorded;

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_waits_and_starts_as_soon_as_the_first_ends() {
    let place = Place::new().await;
    let ids = place.dag(&limited("a", Overlap::Queue)).await;
    let (first, second) = (place.start(ids).await, place.start(ids).await);
    let claims = place.claim(5).await;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].run.facts.id, first);
    assert_eq!(
        place.store.run_summary(second).await.unwrap().state,
        RunState::Queued.as_str()
    );
    finish(&place.store, &claims[0], good()).await.unwrap();
    assert_eq!(place.claim_one().await.run.facts.id, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_never_run_together() {
    let place = Place::new().await;
    let (dag, version) = place.dag(&limited("a", Overlap::Queue)).await;
    let starts = (0..12).map(|_| {
        let store = place.store.clone();
        tokio::spawn(async move {
            store
                .start_run(&ada(), &manual(dag, version, None))
                .await
                .unwrap()
        })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap();
    }
    for left in (0..12).rev() {
        assert_eq!(
            place
                .count("select count(*) from run where phase = 'running'")
                .await,
            1
        );
        assert_eq!(
            place
                .count("select count(*) from run where phase = 'queued'")
                .await,
            left
        );
        let claim = place.claim_one().await;
        finish(&place.store, &claim, good()).await.unwrap();
    }
    assert_eq!(
        place
            .count("select count(*) from run where phase = 'running'")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_ends_the_second_run_and_names_the_first() {
    let place = Place::new().await;
    let ids = place.dag(&limited("a", Overlap::Skip)).await;
    let (first, second) = (place.start(ids).await, place.start(ids).await);
    let summary = place.store.run_summary(second).await.unwrap();
    assert_eq!(summary.state, RunState::Ended(Outcome::Skipped).as_str());
    assert!(
        summary
            .reason
            .unwrap()
            .message
            .contains(&format!("run {first}"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_running_makes_room_for_the_newer_run() {
    let place = Place::new().await;
    let ids = place.dag(&limited("a", Overlap::CancelRunning)).await;
    let first = place.start(ids).await;
    let claim = place.claim_one().await;
    let second = place.start(ids).await;
    let stops = place.store.stop_requests(place.daemon).await.unwrap();
    assert_eq!(stops[0].why.message, format!("run {second} took its place"));
    finish(&place.store, &claim, bad()).await.unwrap();
    assert_eq!(
        place.store.run_summary(first).await.unwrap().state,
        RunState::Ended(Outcome::Cancelled).as_str()
    );
    assert_eq!(place.claim_one().await.run.facts.id, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_run_can_be_cancelled() {
    let place = Place::new().await;
    let (dag, version) = place.dag(&limited("a", Overlap::Queue)).await;
    place.start((dag, version)).await;
    let second = place.start((dag, version)).await;
    let by = CancelledBy::Actor("ada".into());
    let advanced = place
        .store
        .advance(second, &[Event::CancelRequested { by }])
        .await
        .unwrap();
    assert_eq!(advanced.finished, Some(Outcome::Cancelled));
    assert!(matches!(
        place
            .store
            .start_run(&ada(), &manual(dag, version, None))
            .await
            .unwrap(),
        Recorded::Started(_)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_run_is_found_by_planning_when_its_wake_was_lost() {
    let place = Place::new().await;
    let ids = place.dag(&limited("a", Overlap::Queue)).await;
    let first = place.start(ids).await;
    let second = place.start(ids).await;
    // As if a daemon had died between the end of the first run and the start of the second.
    place
        .sql(
            "update attempt set state = 'finished', outcome = 'succeeded', finished_at = now(), removed = true;
             update stage_run set state = 'finished', outcome = 'succeeded', finished_at = now()
                where run = (select min(id) from run);
             update run set phase = 'finished', outcome = 'succeeded', finished_at = now(), wake_at = null
                where id = (select min(id) from run);
             update run set wake_at = now() where phase = 'queued';",
        )
        .await;
    assert_ne!(first, second);
    let fresh = place.another().await;
    assert_eq!(fresh.due_runs(10).await.unwrap(), [second]);
    fresh.plan(second).await.unwrap();
    assert_eq!(place.claim_one().await.run.facts.id, second);
    assert_eq!(fresh.due_runs(10).await.unwrap(), []);
}

/// A DAG whose runs are limited to one for each branch.
fn limited_by_branch(overlap: Overlap) -> Dag {
    let mut draft = limited("a", overlap).declared().clone();
    draft.concurrency.group = Template::parse("${{ cause.branch }}").ok();
    Dag::new(draft).unwrap()
}

async fn start_on(place: &Place, ids: (DagId, DagVersionId), branch: Option<&str>) -> RunId {
    let mut new = manual(ids.0, ids.1, None);
    new.cause.branch = branch.map(ToOwned::to_owned);
    match place.store.start_run(&ada(), &new).await.unwrap() {
        Recorded::Started(run) => run,
        other => panic!("no run was started: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_running_leaves_the_runs_of_other_groups_alone() {
    let place = Place::new().await;
    let ids = place.dag(&limited_by_branch(Overlap::CancelRunning)).await;
    let main = start_on(&place, ids, Some("main")).await;
    let topic = start_on(&place, ids, Some("topic")).await;
    let none = start_on(&place, ids, None).await;
    let claims = place.claim(5).await;
    let mut running: Vec<RunId> = claims.iter().map(|claim| claim.run.facts.id).collect();
    running.sort();
    assert_eq!(running, [main, topic, none]);
    assert!(
        place
            .store
            .stop_requests(place.daemon)
            .await
            .unwrap()
            .is_empty()
    );

    let newer = start_on(&place, ids, Some("topic")).await;
    let stops = place.store.stop_requests(place.daemon).await.unwrap();
    assert_eq!(stops.len(), 1);
    assert_eq!(stops[0].why.message, format!("run {newer} took its place"));
    let old = claims
        .iter()
        .find(|claim| claim.run.facts.id == topic)
        .unwrap();
    finish(&place.store, old, bad()).await.unwrap();
    let state = place.store.run_summary(topic).await.unwrap().state;
    assert_eq!(state, "cancelled");
    assert_eq!(place.claim(5).await[0].run.facts.id, newer);
    for untouched in [main, none] {
        let state = place.store.run_summary(untouched).await.unwrap().state;
        assert_eq!(state, "running", "run {untouched}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_has_one_run_that_is_active_and_one_queue() {
    let place = Place::new().await;
    let ids = place.dag(&limited_by_branch(Overlap::Queue)).await;
    let mut runs: BTreeMap<&str, Vec<RunId>> = BTreeMap::new();
    for _ in 0..3 {
        for branch in ["main", "topic"] {
            let run = start_on(&place, ids, Some(branch)).await;
            runs.entry(branch).or_default().push(run);
        }
    }
    for (main, topic) in runs["main"].iter().zip(&runs["topic"]) {
        assert_eq!(
            place
                .count("select count(*) from run where phase = 'running'")
                .await,
            2
        );
        let claims = place.claim(5).await;
        let mut found: Vec<RunId> = claims.iter().map(|claim| claim.run.facts.id).collect();
        found.sort();
        assert_eq!(found, [*main, *topic]);
        for claim in &claims {
            finish(&place.store, claim, good()).await.unwrap();
        }
    }
}
