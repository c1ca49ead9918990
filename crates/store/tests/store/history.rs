//! Run history, wakes, and notifications between processes.

use std::time::Duration;

use trainyard_core::id::RunId;
use trainyard_store::{LogChunk, Topic};

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_history_records_a_run_from_start_to_end_in_order() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    place
        .store
        .mark_started(claim.attempt, claim.fence, None, None)
        .await
        .unwrap();
    place
        .store
        .mark_started(claim.attempt, claim.fence, None, None)
        .await
        .unwrap();
    finish(&place.store, &claim, good()).await.unwrap();
    let events = place.store.run_events(run, 0, 100).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "run_started",
            "attempt_queued",
            "attempt_claimed",
            "attempt_started",
            "attempt_finished",
            "stage_finished",
            "run_finished"
        ]
    );
    assert_eq!(events[1].stage.as_deref(), Some("s0"));
    assert_eq!(events[1].attempt, Some(1));
    let later = place
        .store
        .run_events(run, events[4].id, 100)
        .await
        .unwrap();
    assert_eq!(later, events[5..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_recorded_late_is_dated_by_docker_between_its_queueing_and_now() {
    let place = Place::new().await;
    let dag = place.dag(&chain("a", 1)).await;
    let hours = |count: i64| chrono::Duration::hours(count);
    for (since, expected) in [(1, 1), (3, 2), (-1, 0)] {
        let run = place.start(dag).await;
        let claim = place.claim_one().await;
        place
            .sql("update attempt set queued_at = now() - interval '2 hours' where state <> 'finished'")
            .await;
        let now = place.store.run_events(run, 0, 1).await.unwrap()[0].at;
        let (attempt, fence) = (claim.attempt, claim.fence);
        let marked = place
            .store
            .mark_started(attempt, fence, None, Some(now - hours(since)));
        marked.await.unwrap();
        let started = place.store.run_events(run, 0, 100).await.unwrap();
        let started = started.last().unwrap().at;
        let off = started - (now - hours(expected));
        assert!(off.abs() < chrono::Duration::minutes(1), "{started}");
        finish(&place.store, &claim, good()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_run_wakes_the_dispatcher() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let mut woken = place.store.wakes().dispatch.subscribe();
    place.start(ids).await;
    tokio::time::timeout(Duration::from_secs(300), woken.woken())
        .await
        .expect("it is woken");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_run_wakes_its_followers_and_not_those_of_another_run() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let (run, other) = (place.start(ids).await, place.start(ids).await);
    let topics = &place.store.wakes().topics;
    let elsewhere = topics.follow(Topic::Run(other));
    let follow = || topics.follow(Topic::Run(run));

    let queued = follow();
    let claim = place.claim_one().await;
    assert_eq!(claim.run.facts.id, run);
    assert!(queued.has_changed(), "a claim");
    let claimed = follow();
    let started = place
        .store
        .mark_started(claim.attempt, claim.fence, None, None);
    started.await.unwrap();
    assert!(claimed.has_changed(), "a start");
    let running = follow();
    let log = topics.follow(Topic::Log(claim.attempt));
    let chunks = [LogChunk {
        text: "2026-11-23T15:00:00Z O hello\n".into(),
        cursor: None,
    }];
    let appended = place.store.append_log(claim.attempt, claim.fence, &chunks);
    appended.await.unwrap();
    assert!(log.has_changed() && !running.has_changed(), "a line of log");
    finish(&place.store, &claim, good()).await.unwrap();
    assert!(running.has_changed(), "an end");
    assert!(!elsewhere.has_changed());
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_in_another_process_are_woken_over_postgres() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let run = place.start(ids).await;
    let other = place.another().await;
    let second = register(&other, "there").await;
    place.store.renew_leases(place.daemon, LEASE).await.unwrap();
    other.renew_leases(second, LEASE).await.unwrap();
    let both = [place.store.clone(), other.clone()];
    let talking =
        both.map(|store| tokio::spawn(async move { store.listen(std::future::pending()).await }));
    let topics = &other.wakes().topics;
    let mut follower = topics.follow(Topic::Run(run));
    let mut elsewhere = topics.follow(Topic::Run(RunId(9_999)));
    // Listening begins with a wake for all.
    for follower in [&mut follower, &mut elsewhere] {
        let begins = async { while !follower.changed().await {} };
        let begins = tokio::time::timeout(Duration::from_secs(300), begins);
        begins.await.expect("listening begins");
    }
    let claim = place.claim_one().await;
    assert_eq!(claim.run.facts.id, run);
    let woken = async { while !follower.changed().await {} };
    let woken = tokio::time::timeout(Duration::from_secs(300), woken);
    woken.await.expect("it is woken");
    assert!(!elsewhere.has_changed());
    for listening in talking {
        listening.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_is_woken_over_postgres() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    let other = place.another().await;
    let second = register(&other, "there").await;
    // Each learns by its heartbeat that the other lives.
    place.store.renew_leases(place.daemon, LEASE).await.unwrap();
    other.renew_leases(second, LEASE).await.unwrap();
    let listener = other.clone();
    let listening = tokio::spawn(async move { listener.listen(std::future::pending()).await });
    let teller = place.store.clone();
    let telling = tokio::spawn(async move { teller.listen(std::future::pending()).await });
    let mut woken = other.wakes().dispatch.subscribe();
    // The first wake shows that listening has begun.
    tokio::time::timeout(Duration::from_secs(300), woken.woken())
        .await
        .expect("listening begins");
    place.start(ids).await;
    tokio::time::timeout(Duration::from_secs(300), woken.woken())
        .await
        .expect("it is woken");
    listening.abort();
    telling.abort();
}
