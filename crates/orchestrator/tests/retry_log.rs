//! The daemon's log of errors and retries of an attempt, in virtual time.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

mod heard;
mod kit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use trainyard_core::Timestamp;
use trainyard_core::adopted::Adopted;
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::run::{Attempt, AttemptState, Run};
use trainyard_core::stage::RelativePath;
use trainyard_executor::fake::Fake;
use trainyard_executor::{
    AttemptSpec, Attempts, BlobSink, Containers, Error, ErrorKind, Exit, Handle, ImageRequest,
    Listed, LogCursor, LogStream, PreparedImage, Proof, Status,
};
use trainyard_orchestrator::attempt::assignment::{Assignment, Materials};
use trainyard_orchestrator::attempt::ledger::{FencedOff, Ledger};
use trainyard_orchestrator::attempt::log_lines::Batch;
use trainyard_orchestrator::attempt::supervisor::{
    StopSignal, Supervised, Surroundings, supervise,
};

use crate::heard::Heard;
use crate::kit::{assignment, surroundings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A ledger that accepts everything, and keeps the end and the log.
#[derive(Default)]
struct Record {
    end: Mutex<Option<AttemptEnd>>,
    log: Mutex<Vec<u8>>,
}

impl Record {
    fn ending(&self) -> Ending {
        self.end.lock().unwrap().take().unwrap().ending
    }

    fn log(&self) -> String {
        String::from_utf8(self.log.lock().unwrap().clone()).unwrap()
    }
}

impl Ledger for Record {
    type Next = ();

    async fn created(&self, _: &Handle, _: &[String]) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn started(&self, _: Option<&str>, _: Option<Timestamp>) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn append_log(&self, batch: Batch) -> Result<(), FencedOff> {
        self.log.lock().unwrap().extend_from_slice(&batch.text);
        Ok(())
    }

    async fn timeout_passed(&self) {}

    async fn keep(&self, _: &Path, _: &ArtifactContent) -> Result<(), String> {
        Ok(())
    }

    async fn finished(&self, end: AttemptEnd, _: Vec<KeptOutput>) -> Result<(), FencedOff> {
        *self.end.lock().unwrap() = Some(end);
        Ok(())
    }

    async fn removed(&self) {}
}

/// Supervises a stage with this program to its end.
async fn run_on<E: Attempts>(
    surroundings: &Surroundings<E>,
    stage: &str,
    signal: &StopSignal,
) -> Ending {
    let assignment = assignment(&format!("stages: {{s: {{checkout: false, {stage}}}}}"));
    let secrets = BTreeMap::from([("KEY".to_owned(), "hunter22".to_owned().into())]);
    let materials = Materials {
        secrets,
        ..Materials::default()
    };
    let materials = assignment.render().map(|rendered| (rendered, materials));
    let record = Record::default();
    let supervised = supervise(surroundings, &assignment, materials, &record, signal).await;
    let Supervised::Finished { container, .. } = supervised else {
        panic!("no other daemon owns the attempt");
    };
    if let Some(container) = container {
        surroundings.remove(&container, &record).await;
    }
    record.ending()
}

async fn run(stage: &str) -> Ending {
    run_on(&surroundings(), stage, &StopSignal::new()).await
}

/// A stage whose program is this script of the fake.
fn fake(script: &str) -> String {
    format!(r#"image: i, run: "fake\n{script}""#)
}

/// When lines with these words were logged, in seconds.
fn logged_at(heard: &Heard, words: &str) -> Vec<u64> {
    let lines = heard.with(words);
    lines.iter().map(|line| line.after.as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_log_is_reported_after_5_s_then_every_minute_and_on_recovery() {
    let heard = Heard::from_now();
    // Four tries a second, for 150 s.
    run(&fake(r"trouble=logs:600\nsleep=4m\nlog=on\nsleep=1m")).await;
    let logged = heard.with("the log of a container cannot be followed");
    assert!(
        logged.iter().all(|line| line.text.starts_with("WARN")
            && line.text.contains("error=")
            && line.text.contains("lasting_s=")),
        "{logged:?}"
    );
    assert_eq!(logged_at(&heard, "cannot be followed"), [5, 65, 125]);
    let over = heard.with("the log of a container is followed again");
    assert!(over[0].text.starts_with("INFO"), "{over:?}");
    assert_eq!(logged_at(&heard, "is followed again"), [240]);
    assert_eq!(heard.all().len(), 4, "{:?}", heard.all());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_the_first_retries_heal_is_not_reported() {
    let heard = Heard::from_now();
    let trouble = "create start inspect wait logs collect remove";
    let trouble: Vec<String> = trouble
        .split(' ')
        .map(|call| format!(r"trouble={call}:1\n"))
        .collect();
    let script = format!(r"{}log=on\nsleep=10m", trouble.concat());
    run(&fake(&script)).await;
    let lines = heard.all();
    // One each of the calls that are made once, and left to others.
    assert!(
        lines
            .iter()
            .all(|line| line.text.contains("did not confirm a start")
                || line.text.contains("was not removed")),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn waits_that_keep_failing_are_reported_until_an_inspection_succeeds() {
    let heard = Heard::from_now();
    run(&fake(r"trouble=wait:20\nsleep=10m")).await;
    let logged = logged_at(&heard, "Docker does not return a container's state");
    assert!(matches!(logged[..], [5..=10, 65..=75]), "{:?}", heard.all());
    let over = logged_at(&heard, "Docker returns a container's state again");
    assert!(matches!(over[..], [76..=100]), "{:?}", heard.all());
}

#[tokio::test(start_paused = true)]
async fn silence_about_a_running_container_is_reported_every_minute_or_two() {
    let heard = Heard::from_now();
    let (surroundings, signal) = (surroundings(), StopSignal::new());
    let engine = surroundings.executor.clone();
    let stage = fake("hang");
    let falls_silent = async {
        sleep(10 * MINUTE).await;
        engine.set_silent(true);
        sleep(5 * MINUTE).await;
        engine.set_silent(false);
        sleep(2 * MINUTE).await;
        signal.stop(Reason::new(ReasonCode::CancelRequested, "enough"));
    };
    tokio::join!(run_on(&surroundings, &stage, &signal), falls_silent);
    let logged = heard.with("Docker does not return a container's state");
    let between: Vec<Duration> = logged
        .windows(2)
        .map(|two| two[1].after - two[0].after)
        .collect();
    assert!((3..=5).contains(&logged.len()), "{logged:?}");
    assert!(logged[0].after < 12 * MINUTE + 10 * SECOND, "{logged:?}");
    assert!(
        between.iter().all(|pause| *pause <= 2 * MINUTE),
        "{logged:?}"
    );
    let over = logged_at(&heard, "Docker returns a container's state again");
    assert!(matches!(over[..], [900..=970]), "{over:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_docker_refuses_is_reported_every_minute_and_on_recovery() {
    let heard = Heard::from_now();
    let (surroundings, signal) = (surroundings(), StopSignal::new());
    let stage = fake(r"trouble=stop:30\nhang");
    let asks = async {
        sleep(MINUTE).await;
        signal.stop(Reason::new(ReasonCode::CancelRequested, "enough"));
    };
    tokio::join!(run_on(&surroundings, &stage, &signal), asks);
    let logged = logged_at(&heard, "Docker did not stop a container");
    assert!(
        matches!(logged[..], [65..=70, 125..=135]),
        "{:?}",
        heard.all()
    );
    let over = logged_at(&heard, "a container that was to stop has ended");
    assert_eq!(over.len(), 1, "{:?}", heard.all());
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_copied_for_a_while_is_reported_and_its_recovery() {
    let heard = Heard::from_now();
    let script = fake(r"output=o:x\ntrouble=collect:7");
    run(&format!("outputs: {{o: o}}, {script}")).await;
    let logged = logged_at(&heard, "could not be copied");
    assert!(matches!(logged[..], [5..=10]), "{:?}", heard.all());
    assert_eq!(heard.with("INFO").len(), 1, "{:?}", heard.all());
}

#[tokio::test(start_paused = true)]
async fn an_inspection_that_hangs_does_not_delay_an_end() {
    let surroundings = surroundings();
    let looks_hang = Strange {
        looks_hang: true,
        ..Strange::on(&surroundings.executor)
    };
    let surroundings = surroundings.with_executor(looks_hang);
    let begun = Instant::now();
    let ending = run_on(&surroundings, &fake("sleep=90s"), &StopSignal::new()).await;
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{ending:?}"
    );
    let took = begun.elapsed();
    assert!(took < 91 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_attempt_is_logged_with_its_reason() {
    let heard = Heard::from_now();
    let ending = run(&fake(r"sleep=1s\nlost")).await;
    assert!(matches!(ending, Ending::Lost(_)), "{ending:?}");
    let logged = heard.with("an attempt ended, but its program did not end it");
    assert_eq!(logged.len(), 1, "{:?}", heard.all());
    let text = &logged[0].text;
    assert!(text.starts_with("WARN"), "{text}");
    assert!(
        text.contains("outcome=lost") && text.contains("vanished"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_an_errored_attempt_is_logged_without_secrets() {
    let heard = Heard::from_now();
    let ending = run("image: fake/missing-hunter22, run: x").await;
    assert!(matches!(ending, Ending::Errored(_)), "{ending:?}");
    let logged = heard.with("outcome=errored");
    assert_eq!(logged.len(), 1, "{:?}", heard.all());
    assert!(logged[0].text.contains("fake/missing-***"), "{logged:?}");
}

#[tokio::test(start_paused = true)]
async fn a_program_that_fails_logs_no_error() {
    let heard = Heard::from_now();
    run(&fake("exit=3")).await;
    assert!(heard.all().is_empty(), "{:?}", heard.all());
}

/// Runs a stage on a Docker engine that answers requests for a proof with this; returns how it ended, and how
/// long it took.
async fn run_unproved(
    script: &str,
    proves: Result<Proof, Error>,
    signal: &StopSignal,
) -> (Ending, Duration) {
    let surroundings = surroundings();
    let strange = Strange {
        proves: Some(proves),
        ..Strange::on(&surroundings.executor)
    };
    let surroundings = surroundings.with_executor(strange);
    let begun = Instant::now();
    let ending = run_on(&surroundings, &fake(script), signal).await;
    (ending, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn class_15_an_end_that_docker_reports_as_nonsense_for_ever_is_lost_after_minutes() {
    for kind in [
        ErrorKind::Engine,
        ErrorKind::Storage,
        ErrorKind::Unreachable,
    ] {
        let nonsense = Err(Error::new(kind, "the latch is larger than it can be"));
        let (ending, took) = run_unproved("exit=1", nonsense, &StopSignal::new()).await;
        assert!(matches!(ending, Ending::Lost(_)), "{kind:?}: {ending:?}");
        assert!(took < 6 * MINUTE, "{kind:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_docker_engine_that_is_down_proves_nothing_about_an_end_however_long() {
    let surroundings = surroundings();
    let engine = surroundings.executor.clone();
    let strange = Strange {
        silent_proofs: true,
        ..Strange::on(&engine)
    };
    let surroundings = surroundings.with_executor(strange);
    let falls_silent = async {
        sleep(SECOND).await;
        engine.set_silent(true);
        sleep(60 * MINUTE).await;
        engine.set_silent(false);
    };
    let (signal, stage) = (StopSignal::new(), fake("sleep=500ms"));
    let (ending, ()) = tokio::join!(run_on(&surroundings, &stage, &signal), falls_silent);
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{ending:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stopped_program_has_stopped_whatever_it_did_to_its_record() {
    for proves in [Proof::Unproved, Proof::Killed] {
        let signal = StopSignal::new();
        let stops = async {
            sleep(MINUTE).await;
            signal.stop(Reason::new(ReasonCode::StageTimeout, "its time is over"));
        };
        let ends = run_unproved(r"stubborn\nhang", Ok(proves.clone()), &signal);
        let ((ending, _), ()) = tokio::join!(ends, stops);
        assert_eq!(ending, Ending::Stopped { code: 137 }, "{proves:?}");
    }
    let (ending, _) = run_unproved("sleep=1s", Ok(Proof::Unproved), &StopSignal::new()).await;
    assert!(
        matches!(ending, Ending::Lost(_)),
        "without a stop request: {ending:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_that_docker_killed_for_a_daemon_that_is_gone_was_stopped_and_not_killed_from_outside()
 {
    let heard = Heard::from_now();
    let surroundings = surroundings();
    let strange = Strange {
        proves: Some(Ok(Proof::Killed)),
        ..Strange::on(&surroundings.executor)
    };
    let surroundings = surroundings.with_executor(strange);
    let stage = fake(r"sleep=5s\nexit=137");
    let mut assignment = assignment(&format!("stages: {{s: {{checkout: false, {stage}}}}}"));
    let supplies = |assignment: &Assignment| {
        let rendered = assignment.render();
        rendered.map(|rendered| (rendered, Materials::default()))
    };
    let (gone, signal) = (Record::default(), StopSignal::new());
    let first = supplies(&assignment);
    let first = supervise(&surroundings, &assignment, first, &gone, &signal);
    tokio::time::timeout(SECOND, first).await.unwrap_err();

    // The daemon recorded the request, asked Docker for it, and was killed.
    let why = Reason::new(ReasonCode::CancelRequested, "cancelled by ada");
    let since = Timestamp::UNIX_EPOCH;
    let mut run = Run::clone(&assignment.run);
    run.stages[0].attempts.push(Attempt {
        state: AttemptState::Running { since },
        stop: Some((since, why)),
    });
    assignment.run = Arc::new(run);
    assignment.adopted = Some(Adopted {
        container: Some(format!("fake-{}", assignment.attempt)),
        started_at: Some(since),
        running_for: SECOND,
        log_cursor: None,
    });
    sleep(MINUTE).await;
    let (record, signal) = (Record::default(), StopSignal::new());
    let next = supplies(&assignment);
    supervise(&surroundings, &assignment, next, &record, &signal).await;
    assert_eq!(record.ending(), Ending::Stopped { code: 137 });
    assert_eq!(record.log(), "");
    assert!(heard.with("ended").is_empty(), "{:?}", heard.all());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_recorded_as_cancelled_gets_no_other_reason() {
    let heard = Heard::from_now();
    let signal = StopSignal::new();
    signal.stop(Reason::new(ReasonCode::CancelRequested, "cancelled by ada"));
    let ending = run_on(&surroundings(), "image: fake/missing, run: x", &signal).await;
    assert!(!matches!(ending, Ending::Exited { .. }), "{ending:?}");
    assert!(heard.with("ended").is_empty(), "{:?}", heard.all());
}

/// A Docker engine that is the fake, with these differences.
struct Strange {
    fake: Fake,
    /// It never answers an inspection of a container.
    looks_hang: bool,
    /// Its answer about all ends.
    proves: Option<Result<Proof, Error>>,
    /// It reports no end while the fake is silent.
    silent_proofs: bool,
}

impl Strange {
    fn on(fake: &Fake) -> Self {
        Self {
            fake: fake.clone(),
            looks_hang: false,
            proves: None,
            silent_proofs: false,
        }
    }
}

impl Containers for Strange {
    fn kind(&self) -> &'static str {
        self.fake.kind()
    }

    async fn create(&self, spec: &AttemptSpec) -> Result<Handle, Error> {
        self.fake.create(spec).await
    }

    async fn start(&self, handle: &Handle) -> Result<(), Error> {
        self.fake.start(handle).await
    }

    async fn inspect(&self, handle: &Handle) -> Result<Option<Status>, Error> {
        if self.looks_hang {
            std::future::pending::<()>().await;
        }
        self.fake.inspect(handle).await
    }

    async fn wait(&self, handle: &Handle) -> Result<Status, Error> {
        self.fake.wait(handle).await
    }

    async fn logs(&self, handle: &Handle, after: Option<LogCursor>) -> Result<LogStream, Error> {
        self.fake.logs(handle, after).await
    }

    async fn stop(&self, handle: &Handle, grace: Duration) -> Result<(), Error> {
        self.fake.stop(handle, grace).await
    }

    async fn remove(&self, handle: &Handle) -> Result<(), Error> {
        self.fake.remove(handle).await
    }

    async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.fake.list().await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.fake.ping().await
    }
}

impl Attempts for Strange {
    async fn prepare(
        &self,
        request: &ImageRequest,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PreparedImage, Error> {
        self.fake.prepare(request, progress).await
    }

    fn starts_once(&self) -> bool {
        self.fake.starts_once()
    }

    async fn prove(&self, handle: &Handle, seen: &Exit) -> Result<Proof, Error> {
        if let Some(proves) = &self.proves {
            return proves.clone();
        }
        if self.silent_proofs {
            self.fake.ping().await?;
        }
        self.fake.prove(handle, seen).await
    }

    async fn collect(
        &self,
        handle: &Handle,
        output: &RelativePath,
        to: &Arc<dyn BlobSink>,
        limit: u64,
    ) -> Result<Option<ArtifactContent>, Error> {
        self.fake.collect(handle, output, to, limit).await
    }
}
