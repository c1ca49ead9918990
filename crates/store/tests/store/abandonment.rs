//! Attempts that an operator abandons because their end is never reported.

use std::time::Duration;

use trainyard_core::event::Event;
use trainyard_core::id::RunId;
use trainyard_core::outcome::{Outcome, RunState};
use trainyard_core::run::CancelledBy;
use trainyard_store::{Abandoned, Claim, ClaimRequest, GivingUp, SeenGone};

use crate::kit::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A run with one stage that a daemon has claimed.
async fn held(place: &Place) -> (RunId, Claim) {
    let run = place.start(place.dag(&chain("a", 1)).await).await;
    (run, place.claim_one().await)
}

/// Abandons a run as another daemon does that knows only what the database says.
async fn abandon_gone(place: &Place, run: RunId, gone: SeenGone) -> Abandoned {
    let giving_up = GivingUp {
        by: ada(),
        patience: PATIENCE,
        gone,
    };
    let store = place.another().await;
    store.abandon(run, giving_up).await.unwrap()
}

async fn abandon(place: &Place, run: RunId) -> Abandoned {
    let gone = place.store.seen_gone(run).await.unwrap();
    abandon_gone(place, run, gone).await
}

async fn cancel(place: &Place, run: RunId) {
    let by = CancelledBy::Actor("bob".into());
    let cancelled = [Event::CancelRequested { by }];
    place.store.advance(run, &cancelled).await.unwrap();
}

async fn state(place: &Place, run: RunId) -> RunState {
    let state = place.store.run_summary(run).await.unwrap().state;
    RunState::from_word(&state).unwrap()
}

fn reasons(abandoned: &Abandoned) -> String {
    let reasons = abandoned.refused.iter().map(ToString::to_string);
    reasons.collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_outlives_a_stop_request_is_lost_and_a_late_end_changes_nothing() {
    let place = Place::new().await;
    let (run, claim) = held(&place).await;
    cancel(&place, run).await;
    let early = abandon(&place, run).await;
    assert!(!early.any);
    assert!(
        reasons(&early).ends_with("and may still end by itself"),
        "{early:?}"
    );
    place
        .sql("update attempt set stop_requested_at = stop_requested_at - interval '90 s'")
        .await;
    assert!(abandon(&place, run).await.any);
    assert_eq!(state(&place, run).await, RunState::Ended(Outcome::Lost));
    let message = place.text("select reason_message from attempt").await;
    assert_eq!(
        message,
        "abandoned by ada: it had not ended 1m30s after it was asked to stop"
    );

    let late = finish(&place.store, &claim, good()).await.unwrap();
    assert!(late.before);
    assert_eq!(state(&place, run).await, RunState::Ended(Outcome::Lost));
    let violations = place.store.check_invariants().await.unwrap();
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_asked_to_stop_before_the_clock_went_back_may_be_abandoned() {
    let place = Place::new().await;
    let (run, _) = held(&place).await;
    cancel(&place, run).await;
    place
        .sql("update attempt set stop_requested_at = stop_requested_at + interval '1 day'")
        .await;
    assert!(abandon(&place, run).await.any);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_a_daemon_left_a_minute_ago_is_lost_and_retried() {
    let place = Place::new().await;
    let (run, first) = held(&place).await;
    place.store.stop_daemon(place.daemon).await.unwrap();
    assert!(!abandon(&place, run).await.any, "it may come back");
    place
        .sql("update daemon set stopped_at = stopped_at - interval '61 s'")
        .await;
    assert!(abandon(&place, run).await.any);
    let heir = register(&place.store, "heir").await;
    let due = async {
        loop {
            place.store.plan(run).await.unwrap();
            if let Some(claim) = place.store.claim(&request(heir, 1)).await.unwrap().pop() {
                return claim;
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(30), due)
        .await
        .expect("the back-off ends");
    assert_eq!(again.reference.number, first.reference.number + 1);
    finish(&place.store, &again, good()).await.unwrap();
    assert_eq!(
        state(&place, run).await,
        RunState::Ended(Outcome::Succeeded)
    );
}

/// The state after the database's clock has jumped ahead.
const LAPSE: &str = "update daemon set lease_until = clock_timestamp() - interval '1 hour'";

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_lease_is_renewed_between_two_checks_is_not_gone() {
    let place = Place::new().await;
    let (run, claim) = held(&place).await;
    place.sql(LAPSE).await;
    let gone = place.store.seen_gone(run).await.unwrap();
    assert!(!gone.is_empty());
    place.store.renew_leases(place.daemon, LEASE).await.unwrap();
    assert!(!abandon_gone(&place, run, gone).await.any);
    let done = finish(&place.store, &claim, good()).await.unwrap();
    assert_eq!(done.advanced.finished, Some(Outcome::Succeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_another_daemon_adopts_between_two_checks_is_not_abandoned() {
    let place = Place::new().await;
    let (run, _) = held(&place).await;
    place.sql(LAPSE).await;
    let gone = place.store.seen_gone(run).await.unwrap();
    let request = request(register(&place.store, "heir").await, 1);
    let taken = place.store.adoptable(&request, &[], Duration::ZERO, &[]);
    assert_eq!(taken.await.unwrap().len(), 1);
    // It dies at once, and has been gone for as long; but the claim is another one.
    place.sql(LAPSE).await;
    assert!(!abandon_gone(&place, run, gone).await.any);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_a_live_daemon_is_not_abandoned() {
    let place = Place::new().await;
    let (run, claim) = held(&place).await;
    let refused = abandon(&place, run).await;
    assert!(!refused.any);
    assert_eq!(
        reasons(&refused),
        "stage s0 was not asked to stop, and a daemon supervises it"
    );
    let done = finish(&place.store, &claim, good()).await.unwrap();
    assert_eq!(done.advanced.finished, Some(Outcome::Succeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_supervisor_of_an_attempt_learns_that_it_has_ended() {
    let place = Place::new().await;
    let (_, claim) = held(&place).await;
    let ended = |ago| {
        let store = place.store.clone();
        async move { store.ended_before(&[claim.attempt], ago).await.unwrap() }
    };
    assert_eq!(ended(Duration::ZERO).await, []);
    finish(&place.store, &claim, good()).await.unwrap();
    assert_eq!(ended(Duration::from_secs(60)).await, []);
    assert_eq!(ended(Duration::ZERO).await, [claim.attempt]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_at_a_docker_engine_that_no_daemon_reaches_is_reported() {
    let place = Place::new().await;
    let (run, claim) = held(&place).await;
    place
        .sql("update attempt set engine = 'one'; update daemon set lease_until = now() - interval '2 min'")
        .await;
    let of = |engine: &str| ClaimRequest {
        engine: Some(engine.into()),
        ..place.request(1)
    };
    let left = place.store.left_behind(&of("two")).await.unwrap();
    let [left] = left.as_slice() else {
        panic!("{left:?}");
    };
    assert_eq!((left.run, left.attempt), (run, claim.attempt));
    assert_eq!((left.engine.as_str(), left.owner), ("one", place.daemon));
    assert_eq!(place.store.left_behind(&of("one")).await.unwrap(), []);
}
