//! The invariants: none is violated by the store's own work, and each can be violated.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sqlx::AssertSqlSafe;
use trainyard_core::adopted::LogCursor;
use trainyard_core::artifact::{ArtifactContent, ArtifactKind, KeptOutput};
use trainyard_core::cause::{Again, CauseKind, RetryAt};
use trainyard_core::event::Event;
use trainyard_core::overlap::Overlap;
use trainyard_core::retry::Retry;
use trainyard_core::run::CancelledBy;
use trainyard_store::{Claim, Error, INVARIANTS, LogChunk, NewDelivery, Recorded};

use crate::kit::*;
use crate::pushes::{file, push, scheduled};

/// The whole life of a claim: handle, start, log, end.
async fn run_through(place: &Place, claim: &Claim, end: trainyard_core::event::AttemptEnd) {
    let store = &place.store;
    store
        .save_handle(claim.attempt, claim.fence, "container", &[])
        .await
        .unwrap();
    store
        .mark_started(claim.attempt, claim.fence, Some("alpine@sha256:1"), None)
        .await
        .unwrap();
    for cursor in 1..=2 {
        let chunk = LogChunk {
            text: Bytes::from_static(b"2026-11-23T00:00:00.000000000Z O a line\n"),
            cursor: Some(LogCursor {
                major: cursor,
                minor: 0,
            }),
        };
        store
            .append_log(claim.attempt, claim.fence, &[chunk])
            .await
            .unwrap();
    }
    let mut finished = finished(claim, end);
    finished.artifacts = vec![KeptOutput {
        name: "model".parse().unwrap(),
        content: ArtifactContent {
            kind: ArtifactKind::File,
            sha256: "ab".repeat(32),
            size: 3,
        },
    }];
    store.finish_attempt(finished, None).await.unwrap();
    store.mark_removed(claim.attempt).await.unwrap();
}

/// Some of everything: success, failure with retries, cancelling, a retry that reuses results, ticks, a webhook, a
/// paused DAG, a queue behind a limit, adoption, an attempt that was given back, and attempts that wait and run.
async fn history() -> Place {
    let place = Place::new().await;
    let store = &place.store;

    let ids = place.dag(&chain("chain", 3)).await;
    let run = place.start(ids).await;
    run_through(&place, &place.claim_one().await, good()).await;
    run_through(&place, &place.claim_one().await, bad()).await;
    let mut again = manual(ids.0, ids.1, None);
    again.cause.kind = CauseKind::Retry {
        of: run,
        again: Again::FromFailed,
        at: RetryAt::SameCommit { branch_head: None },
        request: None,
    };
    assert!(matches!(
        store.start_run(&ada(), &again).await.unwrap(),
        Recorded::Started(_)
    ));
    run_through(&place, &place.claim_one().await, good()).await;
    run_through(&place, &place.claim_one().await, good()).await;

    let mut flaky = stage("flaky", &[]);
    flaky.program_mut().retry = Retry {
        attempts: 3,
        backoff: Duration::ZERO,
        ..Retry::default()
    };
    let run = place
        .start(place.dag(&dag("flaky", vec![flaky])).await)
        .await;
    run_through(&place, &place.claim_one().await, bad()).await;
    store.plan(run).await.unwrap();
    run_through(&place, &place.claim_one().await, bad()).await;

    let run = place.start(place.dag(&wide("cancelled", 3)).await).await;
    let held = place.claim(1).await.pop();
    let by = CancelledBy::Actor("ada".to_owned());
    store
        .advance(run, &[Event::CancelRequested { by }])
        .await
        .unwrap();
    if let Some(claim) = held {
        run_through(&place, &claim, bad()).await;
    }

    let limited_ids = place.dag(&limited("limited", Overlap::Queue)).await;
    place.start(limited_ids).await;
    place.start(limited_ids).await;

    let mut seen = push(None, '1', vec![file(&scheduled("night", "0 3 * * *"))]);
    seen.matches.clear();
    store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap();
    place
        .sql("update schedule set next_tick = date_trunc('minute', now())")
        .await;
    assert_eq!(store.fire_due_schedules().await.unwrap().fired, 1);
    store
        .record_delivery(&NewDelivery {
            provider: "github".into(),
            repo: place.repo,
            delivery_id: "d1".into(),
            event: "ping".into(),
            push: None,
            without_push: "nothing to do".into(),
        })
        .await
        .unwrap();

    let run = place.start(place.dag(&wide("going", 4)).await).await;
    let mut claims = place.claim(20).await;
    claims.retain(|claim| claim.run.facts.id == run);
    store.stop_daemon(place.daemon).await.unwrap();
    let heir = register(store, "heir").await;
    let adopted = store
        .adoptable(&request(heir, 1), &[], Duration::from_secs(60), &[])
        .await
        .unwrap();
    assert!(adopted.len() >= 3, "{}", adopted.len());
    assert!(matches!(
        finish(store, &claims[1], good()).await,
        Err(Error::Fenced)
    ));
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_store_does_breaks_no_invariant() {
    let place = history().await;
    let violations = place.store.check_invariants().await.unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Statements that break each invariant, bypassing triggers and foreign keys.
const BROKEN: &[(&str, &str)] = &[
    (
        "one-live-attempt",
        "insert into attempt (id, run, stage, number, state, queued_at, repo)
            select gen_random_uuid(), run, position, 98 + n, 'queued', now(), gen_random_uuid()
            from stage_run, generate_series(1, 2) as n",
    ),
    (
        "attempts-are-numbered-densely",
        "update attempt set number = 7 where number = 1",
    ),
    (
        "one-end-in-history",
        "delete from run_event where kind = 'attempt_finished'",
    ),
    (
        "one-end-in-history",
        "insert into run_event (run, at, kind, stage, attempt)
            select run, at, kind, stage, attempt from run_event where kind = 'attempt_finished'",
    ),
    (
        "fences-are-unique",
        "update attempt set fence = 1 where fence is not null",
    ),
    (
        "fences-grow",
        "update attempt set fence = -number where fence is not null",
    ),
    ("fences-grow", "update attempt set fence = 1000000 + fence"),
    (
        "success-was-claimed",
        "update attempt set claimed_at = null where outcome = 'succeeded'",
    ),
    (
        "needs-come-first",
        "update stage_run set finished_at = now() + interval '1 day' where finished_at is not null",
    ),
    (
        "failure-stops-what-needs-it",
        "update stage_run set outcome = 'failed' where outcome = 'succeeded'",
    ),
    (
        "a-success-has-its-attempt",
        "update attempt set outcome = 'failed' where outcome = 'succeeded'",
    ),
    (
        "active-means-attempted",
        "update stage_run set state = 'waiting' where state = 'active'",
    ),
    (
        "an-ended-run-is-whole",
        "update stage_run set state = 'waiting', outcome = null, finished_at = null,
            reason_code = null, reason_message = null where state = 'finished'",
    ),
    (
        "counts-agree",
        "update run set stages_finished = 0, stages_failed = 0",
    ),
    (
        "a-running-run-waits-for-something",
        "delete from attempt where state <> 'finished'",
    ),
    (
        "a-queued-run-is-looked-at-again",
        "update run set wake_at = null",
    ),
    (
        "every-cause-has-one-answer",
        "update cause set refused = 'paused'",
    ),
    ("every-cause-has-one-answer", "delete from run"),
    (
        "a-tick-fires-once",
        "insert into cause (id, dag, kind, detail, commit, summary, recorded_at)
            select gen_random_uuid(), dag, kind, detail, commit, summary, recorded_at
            from cause where kind = 'schedule'",
    ),
    (
        "artifacts-are-of-ended-attempts",
        "update attempt set state = 'running', outcome = null, finished_at = null,
            reason_code = null, reason_message = null where id in (select attempt from artifact)",
    ),
    (
        "pieces-of-log-do-not-overlap",
        "update log_chunk set length = length + 1 where start_offset = 0",
    ),
    (
        "pieces-of-log-do-not-overlap",
        "update attempt_log set length = length - 1",
    ),
    ("what-is-held-has-a-holder", "delete from daemon"),
    (
        "what-is-held-has-a-holder",
        "update attempt set owner = (select id from daemon where stopped_at is not null)
            where owner is not null;
         update daemon set stopped_at = now() - interval '1 min' where stopped_at is not null",
    ),
    (
        "nothing-due-is-forgotten",
        "update run set wake_at = now() - interval '2 min' where phase <> 'finished'",
    ),
    (
        "no-tick-is-overdue",
        "update schedule set next_tick = now() - interval '3 min'",
    ),
    (
        "every-delivery-is-answered",
        "update delivery set received_at = now() - interval '1 hour', processed_at = null, result = null",
    ),
    (
        "containers-are-removed",
        "update attempt set removed = false, finished_at = now() - interval '1 hour'
            where state = 'finished'",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_can_be_broken_and_says_so() {
    let place = history().await;
    place
        .sql("update daemon set started_at = now() - interval '1 hour'")
        .await;
    assert!(place.store.check_invariants().await.unwrap().is_empty());
    for (name, breaking) in BROKEN {
        let invariant = INVARIANTS
            .iter()
            .find(|invariant| invariant.name == *name)
            .unwrap_or_else(|| panic!("no invariant {name}"));
        let mut tampering = place.raw.begin().await.unwrap();
        let statements = format!("set local session_replication_role = replica; {breaking}");
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut *tampering)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let counting = format!("select count(*) from ({}) as broken", invariant.sql);
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(counting))
            .fetch_one(&mut *tampering)
            .await
            .unwrap();
        assert!(rows > 0, "{name} is silent on: {breaking}");
        tampering.rollback().await.unwrap();
    }
    let tried: BTreeSet<&str> = BROKEN.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = INVARIANTS.iter().map(|invariant| invariant.name).collect();
    assert_eq!(tried, all, "each is tried");
    assert_eq!(all.len(), INVARIANTS.len(), "each has a name of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_names_the_invariant_and_the_rows() {
    let place = history().await;
    place
        .sql("update run set stages_total = 9 where phase = 'queued'")
        .await;
    let violations = place.store.check_invariants().await.unwrap();
    assert_eq!(violations.len(), 1, "{violations:#?}");
    assert_eq!(violations[0].rows.len(), 1);
    let text = violations[0].to_string();
    assert!(
        text.starts_with("counts-agree: it does not hold that"),
        "{text}"
    );
    assert!(text.contains(r#""stages_total": 9"#), "{text}");
}
