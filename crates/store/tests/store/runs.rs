//! Causes, runs and their advance.

use std::time::Duration;

use trainyard_core::event::Event;
use trainyard_core::id::RunId;
use trainyard_core::outcome::{Outcome, RunState};
use trainyard_core::overlap::Overlap;
use trainyard_core::retry::Retry;
use trainyard_core::run::{CancelledBy, StageState};
use trainyard_store::{CancelFilter, ClaimCapacity, Error, Recorded};

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_reported_twice_makes_one_run() {
    let place = Place::new().await;
    let (dag, version) = place.dag(&chain("a", 1)).await;
    let new = manual(dag, version, Some("key"));
    let tellings = (0..20).map(|_| {
        let (store, new) = (place.store.clone(), new.clone());
        tokio::spawn(async move { store.start_run(&ada(), &new).await.unwrap() })
    });
    let mut started = Vec::new();
    let mut duplicates = Vec::new();
    for telling in tellings.collect::<Vec<_>>() {
        match telling.await.unwrap() {
            Recorded::Started(run) => started.push(run),
            Recorded::Duplicate(run) => duplicates.push(run),
            Recorded::Paused | Recorded::Full(_) => panic!("nothing stands in the way"),
        }
    }
    assert_eq!(started.len(), 1);
    assert!(duplicates.iter().all(|run| *run == started[0]));
    assert_eq!(place.count("select count(*) from run").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_key_start_a_run_each() {
    let place = Place::new().await;
    let ids = place.dag(&chain("a", 1)).await;
    assert_ne!(place.start(ids).await, place.start(ids).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_runs_to_its_end_in_order() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 3)).await).await;
    let mut claim = place.claim_one().await;
    for at in 0..3 {
        assert_eq!(claim.reference.stage.0, at);
        place
            .store
            .save_handle(claim.attempt, claim.fence, "c", "h", &[])
            .await
            .unwrap();
        place
            .store
            .mark_started(claim.attempt, claim.fence, Some("alpine@sha256:1"), None)
            .await
            .unwrap();
        let request = Some(place.request(1));
        let mut done = place
            .store
            .finish_attempt(finished(&claim, good()), request)
            .await
            .unwrap();
        if at < 2 {
            assert_eq!(done.advanced.finished, None);
            claim = done
                .claims
                .pop()
                .expect("the next stage is claimed in the same transaction");
            assert!(done.claims.is_empty());
        } else {
            assert_eq!(done.advanced.finished, Some(Outcome::Succeeded));
        }
    }
    let detail = place.detail(run).await;
    assert_eq!(
        detail.summary.state,
        RunState::Ended(Outcome::Succeeded).as_str()
    );
    assert_eq!(
        (detail.summary.stages_finished, detail.summary.stages_failed),
        (3, 0)
    );
    assert!(
        detail
            .stages
            .iter()
            .all(|stage| stage.image.as_deref() == Some("alpine@sha256:1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_reported_again_changes_nothing() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 2)).await).await;
    let claim = place.claim_one().await;
    assert!(!finish(&place.store, &claim, good()).await.unwrap().before);
    let history = place.store.run_events(run, 0, 100).await.unwrap();
    assert!(finish(&place.store, &claim, bad()).await.unwrap().before);
    assert_eq!(place.store.run_events(run, 0, 100).await.unwrap(), history);
    let detail = place.detail(run).await;
    assert_eq!(detail.stages[0].state, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_events_are_refused_and_change_nothing() {
    let place = Place::new().await;
    let run = place.start(place.dag(&chain("a", 1)).await).await;
    let again = place
        .store
        .advance(run, &[Event::RunStarted])
        .await
        .unwrap();
    assert_eq!(again.refused.len(), 1);
    assert_eq!(again.effects, []);
    let version = "select version from run";
    let before = place.count(version).await;
    for _ in 0..3 {
        assert_eq!(
            place.store.advance(run, &[]).await.unwrap(),
            Default::default()
        );
    }
    assert_eq!(place.count(version).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_cannot_be_changed_even_by_hand() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    let claim = place.claim_one().await;
    finish(&place.store, &claim, good()).await.unwrap();
    for statement in [
        "update run set phase = 'running', finished_at = null, outcome = null",
        "update run set outcome = 'failed'",
        "update stage_run set outcome = 'failed'",
        "update attempt set outcome = 'failed'",
        "update attempt set fence = nextval('fence')",
    ] {
        let refused = sqlx::raw_sql(statement)
            .execute(&place.raw)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("has ended"), "{statement}: {refused}");
    }
    place.sql("update attempt set removed = true").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_contradict_themselves_are_refused() {
    let place = Place::new().await;
    place.start(place.dag(&chain("a", 1)).await).await;
    for statement in [
        "update run set finished_at = now()",
        "update run set phase = 'finished'",
        "update run set phase = 'lost'",
        "update stage_run set state = 'finished'",
        "update stage_run set until = now()",
        "update attempt set state = 'running'",
        "update attempt set outcome = 'failed'",
        "update attempt set owner = (select id from daemon)",
    ] {
        assert!(
            sqlx::raw_sql(statement).execute(&place.raw).await.is_err(),
            "{statement} was taken"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_advance_one_run_without_losing_a_stage() {
    let place = Place::new().await;
    let other = place.another().await;
    let run = place.start(place.dag(&wide("a", 12)).await).await;
    let claims = place.claim(12).await;
    let ends = claims.into_iter().enumerate().map(|(at, claim)| {
        let store = if at % 2 == 0 {
            place.store.clone()
        } else {
            other.clone()
        };
        tokio::spawn(async move { finish(&store, &claim, good()).await.unwrap() })
    });
    for end in ends.collect::<Vec<_>>() {
        end.await.unwrap();
    }
    let summary = place.store.run_summary(run).await.unwrap();
    assert_eq!(summary.state, RunState::Ended(Outcome::Succeeded).as_str());
    assert_eq!(summary.stages_finished, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_stage_backs_off_and_the_run_is_due_when_that_ends() {
    let place = Place::new().await;
    let mut flaky = stage("flaky", &[]);
    flaky.program_mut().retry = Retry {
        attempts: 2,
        backoff: Duration::from_millis(300),
        ..Retry::default()
    };
    let run = place.start(place.dag(&dag("a", vec![flaky])).await).await;
    let claim = place.claim_one().await;
    finish(&place.store, &claim, bad()).await.unwrap();
    let (state, _) = place.store.run_state(run).await.unwrap();
    assert!(matches!(
        state.stages[0].state,
        StageState::BackingOff { .. }
    ));
    let wait = place
        .store
        .next_wake()
        .await
        .unwrap()
        .wait
        .expect("the back-off ends");
    assert!(wait <= Duration::from_millis(300));
    let due = async { while place.store.due_runs(10).await.unwrap() != [run] {} };
    tokio::time::timeout(Duration::from_secs(300), due)
        .await
        .expect("the run comes due");
    place.store.plan(run).await.unwrap();
    assert_eq!(place.claim_one().await.reference.number, 2);
    assert_eq!(place.store.due_runs(10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_reported_and_no_clock_of_the_database_brings_it_on() {
    let place = Place::new().await;
    let mut slow = stage("slow", &[]);
    slow.program_mut().timeout = Some(Duration::from_millis(50));
    let run = place.start(place.dag(&dag("a", vec![slow])).await).await;
    let claim = place.claim_one().await;
    place
        .store
        .mark_started(claim.attempt, claim.fence, None, None)
        .await
        .unwrap();
    // The state after a jump of the clock.
    place
        .sql("update attempt set started_at = now() - interval '1 day'")
        .await;
    place.store.plan(run).await.unwrap();
    let stops = || place.store.stop_requests(place.daemon);
    assert_eq!(stops().await.unwrap(), []);
    assert_eq!(place.store.next_wake().await.unwrap().wait, None);
    let passed = [Event::TimeoutPassed(claim.reference)];
    for _ in 0..2 {
        place.store.advance(run, &passed).await.unwrap();
    }
    let why = match stops().await.unwrap().as_slice() {
        [stop] => {
            assert_eq!((stop.attempt, stop.fence), (claim.attempt, claim.fence));
            stop.why.message.clone()
        }
        stops => panic!("{stops:?}"),
    };
    assert_eq!(why, "it ran longer than its timeout of 50ms");
    assert_eq!(place.store.due_runs(10).await.unwrap(), []);
    let done = finish(&place.store, &claim, bad()).await.unwrap();
    assert_eq!(done.advanced.finished, Some(Outcome::TimedOut));
    assert_eq!(
        place.store.run_summary(run).await.unwrap().state,
        RunState::Ended(Outcome::TimedOut).as_str()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_withdraws_what_waits_and_asks_what_runs_to_stop() {
    let place = Place::new().await;
    let run = place.start(place.dag(&wide("a", 2)).await).await;
    let claim = place.claim_one().await;
    let by = CancelledBy::Actor("ada".into());
    let cancelled = [Event::CancelRequested { by }];
    place.store.advance(run, &cancelled).await.unwrap();
    assert!(place.claim(5).await.is_empty());
    let stops = place.store.stop_requests(place.daemon).await.unwrap();
    assert_eq!(stops[0].why.message, "cancelled by ada");
    assert!(!stops[0].is_forced);
    place.store.advance(run, &cancelled).await.unwrap();
    let stops = place.store.stop_requests(place.daemon).await.unwrap();
    assert!(stops[0].is_forced, "a second request forces it");
    let done = finish(&place.store, &claim, good()).await.unwrap();
    assert_eq!(done.advanced.finished, Some(Outcome::Cancelled));
    assert!(
        place
            .store
            .stop_requests(place.daemon)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_runs_of_a_repo_or_a_dag_are_cancelled_at_once_and_no_others() {
    let place = Place::new().await;
    let (waiting, queued) = (
        place.dag(&wide("waiting", 2)).await,
        place.dag(&limited("queued", Overlap::Queue)).await,
    );
    let held = place.start(waiting).await;
    assert_eq!(place.claim(1).await.len(), 1);
    for _ in 0..30 {
        place.start(waiting).await;
        place.start(queued).await;
    }
    let other = add_repo(&place.store, "other").await;
    let others = place
        .start(place.dag_of(other, &wide("waiting", 1)).await)
        .await;
    place
        .sql(
            "insert into quarantine (run, place, reason, failures, first_at, last_at, held_at)
            values (2, 'planning', 'why', 1, now(), now(), now())",
        )
        .await;
    let of = |dag, before, limit| CancelFilter {
        repo: place.repo,
        dag,
        before,
        limit,
    };
    let cancel =
        async |filter: CancelFilter| place.store.cancel_runs(&ada(), &filter).await.unwrap();

    let first = cancel(of(Some(queued.0), None, 25)).await;
    assert!(first.runs.len() == 25 && first.more, "{first:?}");
    let second = cancel(of(Some(queued.0), first.runs.last().copied(), 25)).await;
    assert!(second.runs.len() == 5 && !second.more, "{second:?}");
    assert!(
        first
            .runs
            .iter()
            .chain(&second.runs)
            .is_sorted_by(|a, b| a > b)
    );
    // The newest comes first: no run started because the oldest one made room.
    let started =
        "select count(started_at) from run where dag = (select id from dag where name = 'queued')";
    assert_eq!(place.count(started).await, 1);

    assert_eq!(cancel(of(None, None, 500)).await.runs.len(), 31);
    let left = "select string_agg(id || ' ' || (cancel_at is not null), ', ' order by id) from run
        where phase <> 'finished'";
    assert_eq!(
        place.text(left).await,
        format!("{held} true, {others} false")
    );
    let ends = "select string_agg(distinct outcome, ', ' order by outcome) from run";
    assert_eq!(place.text(ends).await, "cancelled, errored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_and_a_claim_at_the_same_time_leave_no_attempt_behind() {
    let place = Place::new().await;
    let ids = place.dag(&wide("a", 6)).await;
    for _ in 0..10 {
        let run = place.start(ids).await;
        let (store, request) = (place.store.clone(), place.request(100));
        let claiming = tokio::spawn(async move { store.claim(&request).await.unwrap() });
        let by = CancelledBy::Actor("ada".into());
        place
            .store
            .advance(run, &[Event::CancelRequested { by }])
            .await
            .unwrap();
        for claim in claiming.await.unwrap() {
            finish(&place.store, &claim, good()).await.unwrap();
        }
        assert_eq!(
            place.store.run_summary(run).await.unwrap().state,
            RunState::Ended(Outcome::Cancelled).as_str()
        );
    }
    assert_eq!(
        place
            .count("select count(*) from attempt where state <> 'finished'")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_stops_only_itself() {
    let place = Place::new().await;
    let poisoned = place.dag(&chain("poisoned", 1)).await;
    let sick = place.start(poisoned).await;
    let well = place.start(place.dag(&chain("well", 1)).await).await;
    place
        .sql("update dag_version set spec = '{\"format\": 99}' where dag = (select id from dag where name = 'poisoned')")
        .await;
    let fresh = place.another().await;
    let error = fresh.advance(sick, &[]).await.unwrap_err();
    assert!(error.to_string().contains("DAG version"), "{error}");
    let claims = fresh.claim(&place.request(5)).await.unwrap();
    assert_eq!(
        claims
            .iter()
            .map(|claim| claim.run.facts.id)
            .collect::<Vec<_>>(),
        [well]
    );
    finish(&fresh, &claims[0], good()).await.unwrap();
    // The attempt of the broken run does not hold capacity for ever.
    assert_eq!(
        place
            .count("select count(*) from attempt where state in ('claimed', 'running')")
            .await,
        0
    );
    assert_eq!(fresh.due_runs(10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_run_is_reported_by_its_number() {
    let place = Place::new().await;
    let error = place.store.advance(RunId(42), &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no run 42");
    assert!(matches!(
        place
            .store
            .run_detail(RunId(42), &ClaimCapacity::default())
            .await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn class_17_a_repo_with_too_many_unfinished_stages_starts_no_run_until_some_ended() {
    let place = Place::with(|options| options.unfinished.stages = 5).await;
    let (dag, version) = place.dag(&chain("a", 2)).await;
    let keyed = manual(dag, version, Some("once"));
    let Recorded::Started(first) = place.store.start_run(&ada(), &keyed).await.unwrap() else {
        panic!("there is room");
    };
    place.start((dag, version)).await;
    let Recorded::Full(why) = place
        .store
        .start_run(&ada(), &manual(dag, version, None))
        .await
        .unwrap()
    else {
        panic!("there is no room");
    };
    assert!(
        why.contains("2 unfinished runs with 4 unfinished stages"),
        "{why}"
    );
    assert!(why.contains("trainyard run cancel --repo shop"), "{why}");
    assert_eq!(
        place.store.start_run(&ada(), &keyed).await.unwrap(),
        Recorded::Duplicate(first),
        "a cause that is reported again has its run"
    );
    place.store.cancel_run(&ada(), first).await.unwrap();
    place.start((dag, version)).await;
}
