//! A supervisor and the timeout of its stage, in virtual time.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

mod kit;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::adopted::Adopted;
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_executor::Handle;
use trainyard_orchestrator::attempt::assignment::{Assignment, Materials};
use trainyard_orchestrator::attempt::ledger::{FencedOff, Ledger};
use trainyard_orchestrator::attempt::log_lines::Batch;
use trainyard_orchestrator::attempt::supervisor::{StopSignal, Supervised, supervise};

use crate::kit::{assignment, surroundings};

/// A ledger that records a passed timeout and then loses it, as many times as it is set to.
struct Forgetful {
    forgets: u32,
    reported: AtomicU32,
    signal: StopSignal,
    ended: Mutex<Option<(AttemptEnd, Instant)>>,
}

impl Ledger for Forgetful {
    type Next = ();

    async fn created(&self, _: &Handle, _: &[String]) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn started(&self, _: Option<&str>, _: Option<Timestamp>) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn append_log(&self, _: Batch) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn timeout_passed(&self) {
        if self.reported.fetch_add(1, Ordering::Relaxed) >= self.forgets {
            self.signal
                .stop(Reason::new(ReasonCode::StageTimeout, "its timeout passed"));
        }
    }

    async fn keep(&self, _: &Path, _: &ArtifactContent) -> Result<(), String> {
        Err("it has no outputs".to_owned())
    }

    async fn finished(&self, end: AttemptEnd, _: Vec<KeptOutput>) -> Result<(), FencedOff> {
        *self.ended.lock().await = Some((end, Instant::now()));
        Ok(())
    }

    async fn removed(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_the_record_has_lost_is_reported_again() {
    let assignment =
        assignment("stages: {s: {image: i, checkout: false, timeout: 10s, run: \"fake\\nhang\"}}");
    let signal = StopSignal::new();
    let ledger = Forgetful {
        forgets: 2,
        reported: AtomicU32::new(0),
        signal: signal.clone(),
        ended: Mutex::default(),
    };
    let surroundings = surroundings();
    let materials = assignment
        .render()
        .map(|rendered| (rendered, Materials::default()));
    let begun = Instant::now();
    let supervised = supervise(&surroundings, &assignment, materials, &ledger, &signal).await;
    assert!(matches!(supervised, Supervised::Finished { .. }));
    let (end, at) = ledger.ended.lock().await.take().unwrap();
    assert!(matches!(end.ending, Ending::Stopped { .. }), "{end:?}");
    assert_eq!(ledger.reported.load(Ordering::Relaxed), 3);
    let took = at - begun;
    assert!(
        (Duration::from_secs(60)..Duration::from_secs(90)).contains(&took),
        "{took:?}"
    );
}

/// Runs a stage whose first supervisor dies after a second, and which another adopts after `away`. Returns how it
/// ended, and how often its timeout was recorded.
async fn adopted_after(
    stage: &str,
    away: Duration,
    started_at: Option<Timestamp>,
    running_for: Duration,
) -> (AttemptEnd, u32) {
    let mut assignment = assignment(&format!(
        "stages: {{s: {{image: i, checkout: false, {stage}}}}}"
    ));
    let surroundings = surroundings();
    let ledger = |signal: &StopSignal| Forgetful {
        forgets: 0,
        reported: AtomicU32::new(0),
        signal: signal.clone(),
        ended: Mutex::default(),
    };
    let materials = |assignment: &Assignment| {
        let rendered = assignment.render();
        rendered.map(|rendered| (rendered, Materials::default()))
    };
    let signal = StopSignal::new();
    let killed = ledger(&signal);
    let first = supervise(
        &surroundings,
        &assignment,
        materials(&assignment),
        &killed,
        &signal,
    );
    let second = Duration::from_secs(1);
    tokio::time::timeout(second, first).await.unwrap_err();

    tokio::time::advance(away).await;
    assignment.adopted = Some(Adopted {
        container: Some(format!("fake-{}", assignment.attempt)),
        started_at,
        running_for,
        log_cursor: None,
    });
    let signal = StopSignal::new();
    let next = ledger(&signal);
    let materials = materials(&assignment);
    supervise(&surroundings, &assignment, materials, &next, &signal).await;
    let (end, _) = next.ended.lock().await.take().unwrap();
    (end, next.reported.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_program_that_ended_in_time_while_no_daemon_watched_did_not_time_out() {
    let stage = "timeout: 10s, run: \"fake\\nsleep=5s\"";
    let (away, ago) = (Duration::from_secs(60), Duration::from_secs(61));
    let (end, timeouts) = adopted_after(stage, away, Some(Timestamp::UNIX_EPOCH), ago).await;
    assert!(
        matches!(end.ending, Ending::Exited { code: 0, .. }),
        "{end:?}"
    );
    assert_eq!(end.ran_for, Some(Duration::from_secs(5)));
    assert_eq!(timeouts, 0, "it did not time out");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_docker_dates_before_its_queueing_uses_up_no_timeout() {
    let stage = "timeout: 300s, run: \"fake\\nsleep=650s\"";
    let queued_for = Duration::from_secs(2);
    let (end, timeouts) = adopted_after(stage, Duration::from_secs(600), None, queued_for).await;
    assert!(
        matches!(end.ending, Ending::Exited { code: 0, .. }),
        "{end:?}"
    );
    assert_eq!(timeouts, 0, "it did not time out");
}
