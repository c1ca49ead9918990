//! Values that Postgres refuses: these refusals are distinguished from errors that pass, and quarantined.

use trainyard_core::event::Event;
use trainyard_core::run::CancelledBy;
use trainyard_store::{Subject, SyncOutcome, Weight};

use crate::kit::*;
use crate::pushes::{file, push, scheduled};

#[tokio::test(flavor = "multi_thread")]
async fn a_nul_is_refused_and_waiting_does_not_help() {
    let place = Place::new().await;
    let (dag, version) = place.dag(&chain("a", 1)).await;
    let in_text = place.store.resolve_dag("a\0").await.unwrap_err();
    let new = manual(dag, version, Some("request\0"));
    let in_json = place.store.start_run(&ada(), &new).await.unwrap_err();
    for error in [in_text, in_json] {
        assert!(error.is_about_nul(), "{error:?}");
        assert!(error.refusal().is_some() && !error.is_transient());
    }
    let other = place.store.resolve_dag("b").await.unwrap_err();
    assert!(!other.is_about_nul() && other.refusal().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_is_refused_takes_no_other_along() {
    let place = Place::new().await;
    place.start(place.dag(&wide("a", 3)).await).await;
    let claims = place.claim(3).await;
    // The first note waits for a lock, and the others gather behind it.
    let mut lock = place.raw.begin().await.unwrap();
    sqlx::query("select from attempt where id = $1 for update")
        .bind(claims[0].attempt.0)
        .execute(&mut *lock)
        .await
        .unwrap();
    let started = |at: usize, image: &'static str| {
        let (store, claim) = (place.store.clone(), claims[at].clone());
        async move {
            let marked = store.mark_started(claim.attempt, claim.fence, Some(image), None);
            marked.await
        }
    };
    let first = tokio::spawn(started(0, "image"));
    place.until_waiting(1).await;
    let (good, refused, released) =
        tokio::join!(started(1, "image"), started(2, "im\0age"), lock.rollback());
    released.unwrap();
    first.await.unwrap().unwrap();
    good.unwrap();
    assert!(refused.unwrap_err().is_about_nul());
    let running = "select count(*) from attempt where state = 'running'";
    assert_eq!(place.count(running).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_write_that_is_always_refused_is_quarantined() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 1)).await).await;
    place
        .sql("alter table run_event add constraint refusing check (kind <> 'cancel_requested')")
        .await;
    let cancel = [Event::CancelRequested {
        by: CancelledBy::Actor("ada".into()),
    }];
    for _ in 0..3 {
        assert!(place.store.quarantined().await.unwrap().is_empty());
        let refused = place.store.advance(run, &cancel).await.unwrap_err();
        assert_eq!(refused.refusal().as_deref(), Some("23514"));
    }
    let held = place.store.quarantine_of(run).await.unwrap().unwrap();
    assert!(held.reason.contains("23514"), "{held:?}");
    assert!(place.store.end_quarantined(&ada(), run).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_always_refused_is_quarantined_and_the_others_fire() {
    let place = Place::new().await;
    let sick = file(&scheduled("sick", "0 3 * * *"));
    let well = file(&scheduled("well", "0 4 * * *"));
    let mut seen = push(None, '1', vec![sick, well]);
    seen.matches.clear();
    place
        .store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap();
    place
        .sql(
            "alter table cause add constraint refusing check (detail::text not like '%0 3 * * *%');
             update schedule set next_tick = now()",
        )
        .await;
    for _ in 0..3 {
        assert!(place.store.quarantined().await.unwrap().is_empty());
        place.store.fire_due_schedules().await.unwrap();
    }
    let held = place.store.quarantined().await.unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(
        (held[0].kind.as_str(), held[0].name.as_str()),
        ("dag", "shop/sick")
    );
    assert_eq!(place.count("select count(*) from run").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_others_are_recorded_with_their_nul_written_out() {
    let place = Place::new().await;
    let (repo, store) = (place.repo, &place.store);
    let said = "it said `a\0b`";
    let held = store.record_trouble(Subject::Repo(repo), "sync", said, Weight::Certain);
    assert!(held.await.unwrap());
    let held = store.quarantined().await.unwrap().remove(0);
    assert_eq!(held.reason, "it said `a\\0b`");
    let failed = SyncOutcome::Failed(said.into());
    store
        .record_sync(repo, FIRST_ADDRESS, 0, failed)
        .await
        .unwrap();
    let shown = store.repo_summary(repo).await.unwrap().shown;
    assert_eq!(shown.last_error.as_deref(), Some("it said `a\\0b`"));
    assert_eq!(shown.last_sync_at, None, "it is not over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_all_but_what_is_refused_is_over_and_says_so() {
    let place = Place::new().await;
    let (repo, store) = (place.repo, &place.store);
    let outcome = SyncOutcome::AllBut("branch x is not recorded".into());
    store
        .record_sync(repo, FIRST_ADDRESS, 0, outcome)
        .await
        .unwrap();
    let shown = store.repo_summary(repo).await.unwrap().shown;
    assert_eq!(
        shown.last_error.as_deref(),
        Some("branch x is not recorded")
    );
    assert!(shown.last_sync_at.is_some());
    place.sql("update repo set next_sync_at = now()").await;
    let due = store.repos_to_sync().await.unwrap();
    assert!(due[0].synced_before, "stock is taken once");
}
