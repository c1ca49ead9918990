//! Quarantine: a repo, DAG or run that cannot be read or run is quarantined with its reason, and the others go on.

use std::time::Duration;

use trainyard_api::Quarantined;
use trainyard_core::event::Event;
use trainyard_core::id::RunId;
use trainyard_core::outcome::ReasonCode;
use trainyard_core::run::{CancelledBy, RunPhase};
use trainyard_store::{Claim, PushRecorded, RunFilter, Store, Subject, Weight};

use crate::kit::*;
use crate::pushes::{file, push, scheduled};

/// The quarantine, which must be the only one.
async fn only(store: &Store) -> Quarantined {
    let mut held = store.quarantined().await.unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
    held.remove(0)
}

/// A run of `good` and a run of `poisoned`, whose DAG version cannot be read any
/// more, and a store that has read neither.
async fn poisoned() -> (Place, Store, RunId, RunId) {
    let place = Place::new().await;
    let poisoned = place.start(place.dag(&chain("poisoned", 2)).await).await;
    let good = place.start(place.dag(&chain("good", 2)).await).await;
    place
        .sql(
            "update dag_version v set spec = '{\"format\": 1, \"stages\": 17}' from dag d
             where d.id = v.dag and d.name = 'poisoned'",
        )
        .await;
    let store = place.another().await;
    (place, store, poisoned, good)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_request_with_a_code_of_a_newer_version_is_passed_on() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    let by = CancelledBy::Actor("ada".into());
    let cancelled = [Event::CancelRequested { by }];
    place.store.advance(run, &cancelled).await.unwrap();
    place.sql("update attempt set stop_code = 'x'").await;
    let requests = place.store.stop_requests(place.daemon).await.unwrap();
    let request = &requests[0];
    assert_eq!(
        (request.attempt, request.why.code),
        (claim.attempt, ReasonCode::Unknown)
    );
    assert!(place.store.quarantined().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_is_quarantined_and_the_others_go_on() {
    let (place, store, poisoned, good) = poisoned().await;
    let claims = store.claim(&place.request(8)).await.unwrap();
    let runs: Vec<RunId> = claims.iter().map(|claim| claim.run.facts.id).collect();
    assert_eq!(runs, [good]);

    let held = only(&store).await;
    assert_eq!(
        (held.kind.as_str(), held.name.as_str()),
        ("run", poisoned.to_string().as_str())
    );
    assert_eq!(held.place, "dispatch");
    assert!(held.reason.contains("cannot be read"), "{held:?}");
    assert_eq!(store.quarantine_of(poisoned).await.unwrap(), Some(held));
    assert_eq!(store.quarantine_of(good).await.unwrap(), None);

    // It holds no capacity, and no loop retries it.
    assert_eq!(
        place
            .count("select count(*) from attempt where run = 1 and state <> 'queued'")
            .await,
        0
    );
    assert!(store.claim(&place.request(8)).await.unwrap().is_empty());
    assert_eq!(store.check_invariants().await.unwrap(), []);
}

/// The state of the poisoned run's attempt after the next daemon adopted it, where its
/// container was recorded (`noted`) or not.
async fn taken_over(noted: bool) -> String {
    let (place, store, poisoned, _) = poisoned().await;
    // The first daemon has the run in memory.
    let claims = place.claim(8).await;
    let of_poisoned = |claim: &&Claim| claim.run.facts.id == poisoned;
    let claim = claims.iter().find(of_poisoned).unwrap();
    if noted {
        let (attempt, fence) = (claim.attempt, claim.fence);
        let saved = place.store.save_handle(attempt, fence, "box", "hash", &[]);
        saved.await.unwrap();
    }
    place.store.stop_daemon(place.daemon).await.unwrap();
    let heir = register(&place.store, "heir").await;
    let request = request(heir, 8);
    let adopted = store.adoptable(&request, &[], Duration::ZERO, &[]);
    assert_eq!(adopted.await.unwrap().len(), 1, "the good one");
    assert_eq!(only(&store).await.name, poisoned.to_string());
    assert_eq!(store.check_invariants().await.unwrap(), []);
    place.text("select state from attempt where run = 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_an_earlier_daemon_is_given_back_unless_its_program_may_run() {
    assert_eq!(taken_over(false).await, "queued", "it holds no slot");
    assert_eq!(taken_over(true).await, "claimed", "it is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_run_goes_on_once_its_dag_version_is_fixed() {
    let (place, store, poisoned, _) = poisoned().await;
    store.claim(&place.request(8)).await.unwrap();
    place
        .sql(
            "update dag_version v set spec = whole.spec from dag d, dag_version whole join dag g on g.id = whole.dag
             where d.id = v.dag and d.name = 'poisoned' and g.name = 'good'",
        )
        .await;
    let held = only(&store).await;
    store
        .release_from_quarantine(&ada(), held.id)
        .await
        .unwrap();
    let claims = store.claim(&place.request(8)).await.unwrap();
    assert_eq!(claims[0].run.facts.id, poisoned);
    assert!(store.quarantined().await.unwrap().is_empty());
    let error = store
        .release_from_quarantine(&ada(), held.id)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("there is no quarantine {}", held.id)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_run_can_be_ended_and_says_why() {
    let (place, store, poisoned, good) = poisoned().await;
    store.claim(&place.request(8)).await.unwrap();
    assert!(store.end_quarantined(&ada(), poisoned).await.unwrap());
    assert!(
        !store.end_quarantined(&ada(), good).await.unwrap(),
        "it is not in quarantine"
    );
    let runs = store.list_runs(&RunFilter::default()).await.unwrap();
    let run = runs.iter().find(|run| run.id == poisoned.0).unwrap();
    let reason = run.reason.as_ref().unwrap();
    assert_eq!(run.state.as_str(), "errored");
    assert_eq!(reason.code, "internal");
    assert!(reason.message.ends_with("and ended by ada"), "{reason:?}");
    assert!(store.quarantined().await.unwrap().is_empty());
    assert_eq!(store.check_invariants().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_leaves_a_quarantined_run_alone() {
    let (place, store, poisoned, good) = poisoned().await;
    place.sql("update run set wake_at = now()").await;
    assert!(store.plan(poisoned).await.is_err());
    assert_eq!(store.due_runs(10).await.unwrap(), [good]);
    assert_eq!(only(&store).await.place, "planning");
    store.plan(good).await.unwrap();
    let (run, _) = store.run_state(good).await.unwrap();
    assert_ne!(run.phase, RunPhase::Queued);
    assert!(
        store
            .next_wake()
            .await
            .unwrap()
            .wait
            .is_none_or(|wait| !wait.is_zero())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stage_takes_of_pools_concerns_its_run_only() {
    let place = Place::new().await;
    let poisoned = place.start(place.dag(&chain("poisoned", 1)).await).await;
    let good = place.start(place.dag(&chain("good", 1)).await).await;
    place
        .sql("update attempt set pools = '[\"gpu\"]' where run = 1")
        .await;
    let claims = place.claim(8).await;
    let runs: Vec<RunId> = claims.iter().map(|claim| claim.run.facts.id).collect();
    assert_eq!(runs, [good]);
    assert_eq!(only(&place.store).await.name, poisoned.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_be_read_quarantines_its_dag_until_a_commit_fixes_it() {
    let place = Place::new().await;
    let mut seen = push(None, '1', vec![file(&scheduled("night", "0 3 * * *"))]);
    seen.matches.clear();
    let recorded = place
        .store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap();
    assert!(matches!(recorded, PushRecorded::Recorded { .. }));
    place
        .sql("update schedule set timezone = 'Mars/Olympus', next_tick = now()")
        .await;
    place.store.fire_due_schedules().await.unwrap();
    let held = only(&place.store).await;
    assert_eq!(
        (held.kind.as_str(), held.name.as_str()),
        ("dag", "shop/night")
    );
    assert!(held.reason.contains("Mars/Olympus"), "{held:?}");
    place.store.fire_due_schedules().await.unwrap();
    assert_eq!(only(&place.store).await.failures, 1, "no loop retries it");

    let mut mended = push(Some('1'), '2', vec![file(&scheduled("night", "0 3 * * *"))]);
    mended.matches.clear();
    place
        .store
        .record_push(place.repo, FIRST_ADDRESS, mended)
        .await
        .unwrap();
    assert!(place.store.quarantined().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repo_whose_password_cannot_be_opened_does_not_stop_the_others() {
    let place = Place::new().await;
    place
        .sql(
            "insert into repo (id, name, url, address_number, poll_seconds, created_at, next_sync_at, credentials)
             values (gen_random_uuid(), 'broken', 'file:///x', 1, 60, now(), now(), '\\x00');
             update repo set next_sync_at = now()",
        )
        .await;
    let due = place.store.repos_to_sync().await.unwrap();
    let names: Vec<&str> = due.iter().map(|repo| repo.name.as_str()).collect();
    assert_eq!(names, ["shop"]);
    let held = only(&place.store).await;
    assert_eq!((held.kind.as_str(), held.name.as_str()), ("repo", "broken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_possible_accident_quarantines_at_the_third_time_within_an_hour() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 1)).await).await;
    let fails = || {
        place.store.record_trouble(
            Subject::Run(run),
            "supervision",
            "it panicked",
            Weight::Suspect,
        )
    };
    assert!(!fails().await.unwrap());
    assert!(!fails().await.unwrap());
    place
        .sql("update quarantine set last_at = last_at - interval '2 hours'")
        .await;
    assert!(!fails().await.unwrap(), "those before were long ago");
    assert!(!fails().await.unwrap());
    assert!(place.store.quarantined().await.unwrap().is_empty());
    assert!(fails().await.unwrap());
    assert_eq!(only(&place.store).await.failures, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_a_removed_subject_are_ignored() {
    let place = Place::new().await;
    let subject = Subject::Run(RunId(4711));
    let held = place
        .store
        .record_trouble(subject, "planning", "why", Weight::Certain)
        .await;
    assert!(!held.unwrap());
}
