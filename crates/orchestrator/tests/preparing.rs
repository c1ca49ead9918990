//! A supervisor while its image is prepared, in virtual time: the output of the build, and its deadline.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

mod kit;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::outcome::ReasonCode;
use trainyard_executor::fake::Fake;
use trainyard_executor::{Handle, SpecHash};
use trainyard_orchestrator::attempt::assignment::Materials;
use trainyard_orchestrator::attempt::layers::Layers;
use trainyard_orchestrator::attempt::ledger::{FencedOff, Ledger};
use trainyard_orchestrator::attempt::log_lines::Batch;
use trainyard_orchestrator::attempt::supervisor::{
    StopSignal, Supervised, Surroundings, supervise,
};
use trainyard_orchestrator::health::space::{DiskSpace, Floor, SpaceReader};

use crate::kit::{assignment, surroundings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The output of the fake's `yes` in a second.
const LINES_A_SECOND: usize = 100;

/// A record of one attempt in memory, with the times.
#[derive(Default)]
struct Record {
    /// Nothing of the log is stored before.
    takes_from: Option<Instant>,
    /// Another daemon owns the attempt.
    is_fenced: bool,
    log: Mutex<Vec<(Instant, String)>>,
    ended: Mutex<Option<(AttemptEnd, Instant)>>,
}

impl Ledger for Record {
    type Next = ();

    async fn created(&self, _: &Handle, _: &SpecHash, _: &[String]) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn started(&self, _: Option<&str>, _: Option<Timestamp>) -> Result<(), FencedOff> {
        Ok(())
    }

    async fn append_log(&self, batch: Batch) -> Result<(), FencedOff> {
        if self.is_fenced {
            return Err(FencedOff);
        }
        if let Some(moment) = self.takes_from {
            tokio::time::sleep_until(moment).await;
        }
        let text = String::from_utf8(batch.text).unwrap();
        self.log.lock().unwrap().push((Instant::now(), text));
        Ok(())
    }

    async fn timeout_passed(&self) {}

    async fn keep(&self, _: &Path, _: &ArtifactContent) -> Result<(), String> {
        Err("it has no outputs".to_owned())
    }

    async fn finished(&self, end: AttemptEnd, _: Vec<KeptOutput>) -> Result<(), FencedOff> {
        *self.ended.lock().unwrap() = Some((end, Instant::now()));
        Ok(())
    }

    async fn removed(&self) {}
}

impl Record {
    /// When the first line with these words was stored.
    fn stored_at(&self, words: &str) -> Option<Instant> {
        let log = self.log.lock().unwrap();
        log.iter()
            .find(|(_, text)| text.contains(words))
            .map(|(at, _)| *at)
    }

    fn text(&self) -> String {
        let log = self.log.lock().unwrap();
        log.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn end(&self) -> (Ending, Instant) {
        let (end, at) = self.ended.lock().unwrap().take().unwrap();
        (end.ending, at)
    }
}

/// A stage whose image is built by a script of the fake.
fn built_by(script: &str, rest: &str) -> String {
    format!(
        "stages: {{s: {{build: {{context: ., args: {{FAKE: \"{script}\"}}}}, checkout: false, {rest}}}}}"
    )
}

/// Supervises the one attempt of a file to its end, which has to come within seven hours. Returns whether that is
/// recorded: `false` if another daemon owns the attempt.
async fn run(file: &str, record: &Record) -> bool {
    run_on(&surroundings(), file, record).await
}

async fn run_on(surroundings: &Surroundings<Fake>, file: &str, record: &Record) -> bool {
    let assignment = assignment(file);
    let materials = assignment
        .render()
        .map(|rendered| (rendered, Materials::default()));
    let signal = StopSignal::new();
    let supervising = supervise(surroundings, &assignment, materials, record, &signal);
    let patience = tokio::time::timeout(7 * HOUR, supervising);
    let supervised = patience.await.expect("an end in time");
    matches!(supervised, Supervised::Finished { .. })
}

/// The message of an end that is the stage's fault.
fn rejected(ending: Ending) -> String {
    match ending {
        Ending::Rejected(reason) => {
            assert_eq!(reason.code, ReasonCode::ImageBuild);
            reason.message
        }
        other => panic!("it was not rejected: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_output_of_a_build_is_stored_while_it_runs() {
    let file = built_by(r"log=one\nsleep=1m\nlog=two\nsleep=1m", "run: x");
    let record = Record::default();
    let begun = Instant::now();
    assert!(run(&file, &record).await);
    let one = record.stored_at("S one\n").unwrap() - begun;
    let two = record.stored_at("S two\n").unwrap() - begun;
    assert!(one < SECOND, "{one:?}");
    assert!((MINUTE..MINUTE + SECOND).contains(&two), "{two:?}");
    let (ending, at) = record.end();
    assert!(matches!(ending, Ending::Exited { code: 0, .. }));
    assert!(at - begun >= 2 * MINUTE);
}

#[tokio::test(start_paused = true)]
async fn the_last_output_of_a_build_does_not_wait_for_its_program_to_print() {
    let file = built_by("log=last", r#"run: "fake\nsleep=60m""#);
    let record = Record::default();
    let begun = Instant::now();
    assert!(run(&file, &record).await);
    let last = record.stored_at("S last\n").unwrap() - begun;
    assert!(last < SECOND, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_build_that_prints_without_end_is_ended_by_the_timeout_of_its_stage() {
    let file = built_by("yes=y", "run: x, timeout: 20m");
    let record = Record::default();
    let begun = Instant::now();
    assert!(run(&file, &record).await);
    let (ending, at) = record.end();
    let took = at - begun;
    assert!(
        (20 * MINUTE..20 * MINUTE + SECOND).contains(&took),
        "{took:?}"
    );
    let words = rejected(ending);
    assert!(
        words.contains("20m") && words.contains("timeout"),
        "{words}"
    );
    assert!(record.text().ends_with(&format!("{words}\n")));
}

#[tokio::test(start_paused = true)]
async fn a_build_of_a_stage_without_a_timeout_has_six_hours() {
    let file = built_by("hang", "run: x");
    let record = Record::default();
    let begun = Instant::now();
    assert!(run(&file, &record).await);
    let (ending, at) = record.end();
    assert_eq!((at - begun).as_secs(), 6 * 3600);
    let words = rejected(ending);
    assert!(words.contains("6h"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_is_short_for_a_program_leaves_its_image_ten_minutes() {
    let file = built_by("sleep=9m", "run: x, timeout: 1s");
    let record = Record::default();
    assert!(run(&file, &record).await);
    let (ending, _) = record.end();
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{ending:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_build_that_prints_while_nothing_is_stored_keeps_its_deadline_and_little_in_memory() {
    let line = "y".repeat(100);
    let file = built_by(&format!("yes={line}"), "run: x, timeout: 20m");
    let record = Record {
        takes_from: Some(Instant::now() + HOUR),
        ..Record::default()
    };
    assert!(run(&file, &record).await);
    rejected(record.end().0);
    let text = record.text();
    assert!(text.len() < 4 << 20, "{} bytes were held", text.len());
    let kept = text.lines().filter(|text| text.ends_with(&line)).count();
    let left_out: usize = text
        .lines()
        .filter_map(|text| {
            text.split_once(" S … ")?
                .1
                .split_once(" lines (")?
                .0
                .parse::<usize>()
                .ok()
        })
        .sum();
    let said = kept + left_out;
    let expected = 20 * 60 * LINES_A_SECOND;
    assert!(
        (expected..=expected + LINES_A_SECOND).contains(&said),
        "{said} lines were said"
    );
}

#[tokio::test(start_paused = true)]
async fn a_build_is_dropped_once_another_daemon_owns_its_attempt() {
    let file = built_by(r"log=one\nhang", "run: x");
    let record = Record {
        is_fenced: true,
        ..Record::default()
    };
    let begun = Instant::now();
    assert!(!run(&file, &record).await);
    let took = begun.elapsed();
    assert!(took < SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn class_17_on_a_full_disk_a_build_is_cancelled_and_its_attempt_errored() {
    let reader = SpaceReader::new(|_| {
        Ok(DiskSpace {
            free: 1 << 30,
            total: 1 << 40,
        })
    });
    let surroundings = Surroundings {
        layers: Layers::on_disk(0, "/".into(), Floor::Usual, reader),
        ..surroundings()
    };
    let record = Record::default();
    let begun = Instant::now();
    assert!(run_on(&surroundings, &built_by("hang", "run: x"), &record).await);
    let (ending, at) = record.end();
    let Ending::Errored(reason) = ending else {
        panic!("{ending:?}");
    };
    insta::assert_snapshot!(reason.message, @"Docker's disk has 1 GiB free, which is less than the 2 GiB that it needs; the build of the image was cancelled");
    assert_eq!((at - begun).as_secs(), 10);
}
