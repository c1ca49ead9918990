//! The disk use of attempts: the bytes that their containers write, and the outputs that are kept.

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
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_core::id::RunId;
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_executor::Handle;
use trainyard_orchestrator::attempt::allowance::{Allowance, Allowances};
use trainyard_orchestrator::attempt::assignment::Materials;
use trainyard_orchestrator::attempt::layers::Layers;
use trainyard_orchestrator::attempt::ledger::{FencedOff, Ledger};
use trainyard_orchestrator::attempt::log_lines::Batch;
use trainyard_orchestrator::attempt::supervisor::{StopSignal, supervise};
use trainyard_orchestrator::health::space::{DiskSpace, Floor, SpaceReader};

use crate::kit::{assignment, surroundings};

const GIB: u64 = 1 << 30;

/// A stage that writes 3 GiB and does not end.
const LARGE: &str = "run: \"fake\\nwrites=3221225472\\nhang\"";

/// A ledger of a run that has kept some outputs already.
struct Keeps {
    allowances: Allowances,
    recorded: u64,
    kept: AtomicU32,
    recorded_outputs: Mutex<Vec<String>>,
    ended: Mutex<Option<AttemptEnd>>,
}

impl Keeps {
    fn of_a_run(limit: u64, recorded: u64) -> Self {
        Self {
            allowances: Allowances::new(limit),
            recorded,
            kept: AtomicU32::new(0),
            recorded_outputs: Mutex::default(),
            ended: Mutex::default(),
        }
    }
}

impl Ledger for Keeps {
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

    async fn timeout_passed(&self) {}

    async fn allowance(&self) -> Result<Allowance, FencedOff> {
        let recorded = async { Ok(self.recorded) };
        self.allowances.of(RunId(1), recorded).await
    }

    async fn keep(&self, _: &Path, _: &ArtifactContent) -> Result<(), String> {
        self.kept.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn finished(&self, end: AttemptEnd, outputs: Vec<KeptOutput>) -> Result<(), FencedOff> {
        let names = outputs.iter().map(|output| output.name.to_string());
        *self.recorded_outputs.lock().await = names.collect();
        *self.ended.lock().await = Some(end);
        Ok(())
    }

    async fn removed(&self) {}
}

/// How a stage of this script ends, and the ledger of it.
async fn run(stage: &str, layers: Layers, ledger: &Keeps) -> Ending {
    run_under(stage, layers, ledger, &StopSignal::new()).await
}

/// As [`run`], under this signal.
async fn run_under(stage: &str, layers: Layers, ledger: &Keeps, signal: &StopSignal) -> Ending {
    let assignment = assignment(&format!(
        "stages: {{s: {{image: i, checkout: false, {stage}}}}}"
    ));
    let surroundings = trainyard_orchestrator::attempt::supervisor::Surroundings {
        layers,
        ..surroundings()
    };
    let materials = assignment
        .render()
        .map(|rendered| (rendered, Materials::default()));
    supervise(&surroundings, &assignment, materials, ledger, signal).await;
    ledger.ended.lock().await.take().unwrap().ending
}

fn storage(ending: &Ending) -> &str {
    match ending {
        Ending::Rejected(Reason {
            code: ReasonCode::Storage,
            message,
        })
        | Ending::Errored(Reason {
            code: ReasonCode::Storage,
            message,
        }) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_writes_more_than_it_may_is_stopped_and_its_stage_fails() {
    for run_script in [
        "fake\\nwrites=2147483648\\nhang",
        "fake\\nwrites=2147483648\\nstubborn\\nhang",
    ] {
        let ledger = Keeps::of_a_run(GIB, 0);
        let begun = Instant::now();
        let ending = run(&format!("run: \"{run_script}\""), Layers::new(GIB), &ledger).await;
        assert!(matches!(ending, Ending::Rejected(_)), "{ending:?}");
        let words = storage(&ending);
        assert!(
            words.contains("written 2 GiB") && words.contains("limits.layer"),
            "{words}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_writes_less_runs_to_its_end() {
    let ledger = Keeps::of_a_run(GIB, 0);
    let ending = run(
        "run: \"fake\\nwrites=1000\\nsleep=10m\"",
        Layers::new(GIB),
        &ledger,
    )
    .await;
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{ending:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_the_container_that_wrote_most_is_stopped_and_a_small_one_is_not() {
    let full = || {
        let reader = SpaceReader::new(|_| {
            Ok(DiskSpace {
                free: GIB,
                total: 1000 * GIB,
            })
        });
        Layers::on_disk(0, "/".into(), Floor::Usual, reader)
    };
    let ledger = Keeps::of_a_run(GIB, 0);
    let large = run(LARGE, full(), &ledger).await;
    assert!(matches!(large, Ending::Errored(_)), "{large:?}");
    assert!(storage(&large).contains("has 1 GiB free"), "{large:?}");
    // That container is being removed: no second one is stopped for the same lack of space.
    let on_disk = full();
    let _ = run(LARGE, on_disk.clone(), &ledger).await;
    let begun = Instant::now();
    let next = run(LARGE, on_disk, &ledger).await;
    assert!(matches!(next, Ending::Errored(_)), "{next:?}");
    assert!(
        begun.elapsed() >= Duration::from_secs(50),
        "{:?}",
        begun.elapsed()
    );
    let small = run("run: \"fake\\nwrites=1000\\nsleep=10m\"", full(), &ledger).await;
    assert!(matches!(small, Ending::Exited { code: 0, .. }), "{small:?}");
}

#[tokio::test]
async fn outputs_that_do_not_fit_into_what_a_run_may_keep_are_refused() {
    let outputs = "outputs: {a: a, b: b}, run: \"fake\\noutput=a:12345\\noutput=b:12345\"";
    let fits = Keeps::of_a_run(30, 20);
    let ending = run(outputs, Layers::new(0), &fits).await;
    assert!(
        matches!(ending, Ending::Exited { code: 0, .. }),
        "{ending:?}"
    );
    assert_eq!(fits.kept.load(Ordering::Relaxed), 2);
    for (recorded, kept) in [(21, 1), (29, 0), (30, 0), (1_000, 0)] {
        let full = Keeps::of_a_run(30, recorded);
        let ending = run(outputs, Layers::new(0), &full).await;
        assert!(
            storage(&ending).contains("limits.artifacts_of_a_run"),
            "{ending:?}"
        );
        assert_eq!(full.kept.load(Ordering::Relaxed), kept, "{recorded}");
    }
}

/// The recorded outputs of a stage of this script, and how it ends.
async fn kept_of(stage: &str) -> (Vec<String>, Ending) {
    let ledger = Keeps::of_a_run(GIB, 0);
    let ending = run(stage, Layers::new(0), &ledger).await;
    let outputs = std::mem::take(&mut *ledger.recorded_outputs.lock().await);
    (outputs, ending)
}

#[tokio::test]
async fn an_output_that_is_missing_fails_its_stage_and_costs_the_others_nothing() {
    let stage = "outputs: {a: a, b: b, c: sub/c}, metrics: metrics.json, \
                 run: \"fake\\noutput=a:1\\noutput=bb:2\\nmetrics={}x\"";
    let (kept, ending) = kept_of(stage).await;
    assert_eq!(kept, ["a"]);
    let Ending::Rejected(reason) = ending else {
        panic!("{ending:?}");
    };
    assert_eq!(reason.code, ReasonCode::MissingOutput);
    insta::assert_snapshot!(reason.message, @"declared output missing: `b` (outputs/b); $OUTPUTS has `bb`; declared output missing: `c` (outputs/sub/c); metrics file outputs/metrics.json is not one JSON object: something follows it at line 1");
}

#[tokio::test]
async fn metrics_that_are_not_numbers_cost_neither_outputs_nor_the_other_metrics() {
    let ledger = Keeps::of_a_run(GIB, 0);
    let stage = "outputs: {a: a}, metrics: metrics.json, \
                 run: \"fake\\noutput=a:1\\noutput=metrics.json:{\\\"auc\\\":0.9,\\\"loss\\\":NaN}\"";
    let ending = run(stage, Layers::new(0), &ledger).await;
    let Ending::Rejected(reason) = ending else {
        panic!("{ending:?}");
    };
    assert_eq!(reason.code, ReasonCode::InvalidMetrics);
    insta::assert_snapshot!(reason.message, @"metrics file outputs/metrics.json has metric `loss`, which is NaN, not a finite number");
    assert_eq!(*ledger.recorded_outputs.lock().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_always_kept_is_kept_however_its_stage_ends() {
    let outputs =
        "outputs: {log: {path: log, keep: always}, gone: {path: gone, keep: always}, model: model}";
    let left = "fake\\noutput=log:1\\noutput=model:2";
    for end in ["exit=1", "oom", "writes=2147483648\\nhang"] {
        let ledger = Keeps::of_a_run(GIB, 0);
        let stage = format!("{outputs}, run: \"{left}\\n{end}\"");
        let ending = run(&stage, Layers::new(GIB), &ledger).await;
        assert_eq!(*ledger.recorded_outputs.lock().await, ["log"], "{end}");
        assert!(
            !matches!(ending, Ending::Exited { code: 0, .. }),
            "{end}: {ending:?}"
        );
    }
}

#[tokio::test]
async fn of_a_failed_stage_only_outputs_with_keep_always_are_kept() {
    let (kept, ending) = kept_of("outputs: {a: a}, run: \"fake\\noutput=a:1\\nexit=1\"").await;
    assert_eq!(kept, Vec::<String>::new());
    assert!(
        matches!(ending, Ending::Exited { code: 1, .. }),
        "{ending:?}"
    );
}

/// Four outputs that take ten minutes each to copy.
const SLOW: &str = "outputs: {a: a, b: b, c: c, d: d}, \
     run: \"fake\\noutput=a:1\\noutput=b:1\\noutput=c:1\\noutput=d:1\\ncopies=10m\"";

#[tokio::test(start_paused = true)]
async fn class_12_copying_all_outputs_has_one_deadline_and_those_that_were_copied_are_kept() {
    let ledger = Keeps::of_a_run(GIB, 0);
    let begun = Instant::now();
    let ending = run(&format!("timeout: 25m, {SLOW}"), Layers::new(0), &ledger).await;
    assert!(matches!(ending, Ending::Rejected(_)), "{ending:?}");
    insta::assert_snapshot!(storage(&ending), @"output `c` and 1 more are not kept: copying the outputs took longer than 25m; make them fewer or smaller, or raise the stage's `timeout`");
    assert_eq!(begun.elapsed().as_secs() / 60, 25);
    assert_eq!(*ledger.recorded_outputs.lock().await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn class_12_a_stop_ends_the_copying_of_a_program_that_succeeded() {
    let (ledger, signal) = (Keeps::of_a_run(GIB, 0), StopSignal::new());
    let begun = Instant::now();
    let stopped = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let why = Reason::new(ReasonCode::CancelRequested, "cancelled by ada");
        signal.stop(why);
    };
    let supervised = run_under(SLOW, Layers::new(0), &ledger, &signal);
    let (ending, ()) = tokio::join!(supervised, stopped);
    assert_eq!(ending, Ending::Stopped { code: 0 });
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(*ledger.recorded_outputs.lock().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn class_12_outputs_of_a_stopped_program_are_copied_until_that_is_forced() {
    let stage = "outputs: {log: {path: log, keep: always}}, \
                 run: \"fake\\noutput=log:1\\ncopies=10m\\nhang\"";
    for forced in [false, true] {
        let (ledger, signal) = (Keeps::of_a_run(GIB, 0), StopSignal::new());
        let begun = Instant::now();
        let stopped = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let why = Reason::new(ReasonCode::CancelRequested, "cancelled by ada");
            signal.stop(why);
            tokio::time::sleep(Duration::from_secs(60)).await;
            if forced {
                signal.force();
            }
        };
        let supervised = run_under(stage, Layers::new(0), &ledger, &signal);
        let (ending, ()) = tokio::join!(supervised, stopped);
        assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
        let kept = ledger.recorded_outputs.lock().await.len();
        let minutes = begun.elapsed().as_secs() / 60;
        assert_eq!((minutes, kept), if forced { (2, 0) } else { (11, 1) });
    }
}

#[tokio::test]
async fn class_12_the_bytes_that_are_read_of_outputs_that_cannot_be_kept_are_bounded() {
    // Of each folder nearly 1 MiB is read before it turns out to be too large: a file takes 1 KiB.
    let outputs = ["a", "b", "c", "d"];
    let declared = outputs.map(|name| format!("{name}: {name}"));
    let files = |name| (0..1100).map(move |number| format!("\\noutput={name}/{number}:x"));
    let script: String = outputs.into_iter().flat_map(files).collect();
    let stage = format!(
        "outputs: {{{}, small: small}}, run: \"fake\\noutput=small:1{script}\"",
        declared.join(", "),
    );
    let ledger = Keeps::of_a_run(GIB, 0);
    let ending = run(&stage, Layers::new(0), &ledger).await;
    insta::assert_snapshot!(storage(&ending), @"output `a` is larger than 1 MiB (limits.artifact); output `b` is larger than 1 MiB (limits.artifact); output `c` and 2 more are not kept: 2 MiB were read of outputs that cannot be kept, and no more than 1 MiB are (limits.artifact)");
}
