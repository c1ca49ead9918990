//! Concurrency rules of DAGs.

use trainyard_core::event::Event;
use trainyard_core::outcome::Outcome;
use trainyard_core::overlap::Overlap;
use trainyard_core::run::CancelledBy;
use trainyard_store::{Recorded, RunState};

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
        RunState::Queued
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
        tokio::spawn(async move { store.start_run(&manual(dag, version, None)).await.unwrap() })
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
    assert_eq!(summary.state, RunState::Ended(Outcome::Skipped));
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
    assert_eq!(stops[0].2.message, format!("run {second} took its place"));
    finish(&place.store, &claim, bad()).await.unwrap();
    assert_eq!(
        place.store.run_summary(first).await.unwrap().state,
        RunState::Ended(Outcome::Cancelled)
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
            .start_run(&manual(dag, version, None))
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
    // As if a daemon had died between the end of the first and the judgement of the second.
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
