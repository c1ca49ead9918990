//! Attempts that people give up since nobody tells how they ended.

use std::time::Duration;

use trainyard_core::event::Event;
use trainyard_core::id::RunId;
use trainyard_core::outcome::Outcome;
use trainyard_core::run::CancelledBy;
use trainyard_store::{Abandoned, Claim, RunState};

use crate::kit::*;

/// A run with one stage that a daemon has claimed.
async fn held(place: &Place) -> (RunId, Claim) {
    let run = place.start(place.dag(&chain("a", 1)).await).await;
    (run, place.claim_one().await)
}

/// Gives a run up as another daemon does: one that knows of it what the database says.
async fn abandon(place: &Place, run: RunId) -> Abandoned {
    place.another().await.abandon(run, "ada").await.unwrap()
}

fn reasons(abandoned: &Abandoned) -> Vec<String> {
    abandoned.refused.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_to_stop_a_minute_ago_is_lost_and_a_late_end_changes_nothing() {
    let place = Place::new().await;
    let (run, claim) = held(&place).await;
    let by = CancelledBy::Actor("bob".into());
    let cancelled = [Event::CancelRequested { by }];
    place.store.advance(run, &cancelled).await.unwrap();
    let early = abandon(&place, run).await;
    assert!(!early.some);
    assert_eq!(
        reasons(&early),
        ["stage s0 was asked to stop less than a minute ago"]
    );
    place
        .sql("update attempt set stop_requested_at = stop_requested_at - interval '90 s'")
        .await;
    assert!(abandon(&place, run).await.some);
    let lost = RunState::Ended(Outcome::Lost);
    assert_eq!(place.store.run_summary(run).await.unwrap().state, lost);
    let told = "select reason_message from attempt";
    assert_eq!(
        place.text(told).await,
        "given up by ada, 1m30s after it was asked to stop: its engine did not tell how it ended"
    );

    let late = finish(&place.store, &claim, good()).await.unwrap();
    assert!(late.before);
    assert_eq!(place.store.run_summary(run).await.unwrap().state, lost);
    let violations = place.store.check_invariants().await.unwrap();
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_daemon_left_a_minute_ago_is_lost_and_tried_again() {
    let place = Place::new().await;
    let (run, first) = held(&place).await;
    place.store.stop_daemon(place.daemon).await.unwrap();
    assert!(!abandon(&place, run).await.some, "it may come back");
    place
        .sql("update daemon set stopped_at = stopped_at - interval '61 s'")
        .await;
    assert!(abandon(&place, run).await.some);
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
        place.store.run_summary(run).await.unwrap().state,
        RunState::Ended(Outcome::Succeeded)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_under_a_daemon_that_lives_is_not_given_up() {
    let place = Place::new().await;
    let (run, claim) = held(&place).await;
    let refused = abandon(&place, run).await;
    assert!(!refused.some);
    assert_eq!(
        reasons(&refused),
        ["stage s0 was not asked to stop, and a daemon attends to it"]
    );
    let done = finish(&place.store, &claim, good()).await.unwrap();
    assert_eq!(done.advanced.finished, Some(Outcome::Succeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_attends_to_an_attempt_learns_that_somebody_else_has_ended_it() {
    let place = Place::new().await;
    let (_, claim) = held(&place).await;
    let ended = |ago| {
        let store = place.store.clone();
        async move { store.ended_attempts(&[claim.attempt], ago).await.unwrap() }
    };
    assert_eq!(ended(Duration::ZERO).await, []);
    finish(&place.store, &claim, good()).await.unwrap();
    assert_eq!(ended(Duration::from_secs(60)).await, []);
    assert_eq!(ended(Duration::ZERO).await, [claim.attempt]);
}
