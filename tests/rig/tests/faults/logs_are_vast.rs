//! F24: a stage prints a line without end, a vast log, as fast as it can, or bytes that are not text, and viewers of
//! its log request more than the daemon can keep for them, and do not read. The stage goes on at its pace, the
//! daemon's memory does not grow, Docker's own log stays bounded, other runs are not delayed, and the stored log has
//! its beginning, its end, and a mark where something was left out.
//!
//! `RIG_LINE_MIB`, `RIG_LOG_MIB`, `RIG_LINES` and `RIG_BINARY_MIB` say how much is printed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::{argument, within};
use trainyard_rig::trials::{Trial, Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::viewers::Viewers;
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, report, timed};

/// The most that the daemon may grow by.
const GROWTH: u64 = 64 << 20;

/// The log that Docker keeps of one container: 128 MiB in two files, the last of which may be a line too long.
const SPILL: u64 = (128 << 20) + (1 << 20);

/// What is kept of a log, and a batch that comes before what lies in the middle goes.
const KEPT: u64 = (16 << 20) + (1 << 20);

/// How much longer than before, and than four times as long, another run may take meanwhile: the machine is busy with
/// printing.
const BESIDE: Duration = Duration::from_secs(10);

/// How many viewers do not read.
const VIEWERS: usize = 20;

/// The output before the viewers come, in MiB: they request it and do not read it.
const PREFACE: u64 = 3;

/// Tries one way to print.
fn printing(what: &str, print: &str, mebibytes: u64) {
    let trials = Trials::new(
        &format!("F24 {what}"),
        "64 MiB of growth, first and last line kept, no one delayed",
        1,
    )
    .long(3);
    let summary = trials.run(
        |trial: Trial| {
            let mut fleet = Fleet::start(&FleetOptions::new(trial.seed), |witness| {
                let gate = witness.gate();
                let line = "of the preface ".repeat(6);
                let preface = format!("yes {line} | head -c {} || true; echo", PREFACE << 20);
                let prints = witness.script(&format!("{preface}; {gate}; {print}"));
                let beside = witness.script("true");
                vec![
                    (
                        "dags/dag.yaml".to_owned(),
                        format!(
                            "stages:\n  prints: {{image: \"{IMAGE}\", checkout: false, \
                             run: 'echo the first line; {prints}; echo the last line'}}\n"
                        ),
                    ),
                    (
                        "dags/beside.yaml".to_owned(),
                        format!(
                            "stages:\n  s: {{image: \"{IMAGE}\", checkout: false, run: '{beside}'}}\n"
                        ),
                    ),
                ]
            });
            // The proxy passes on frame by frame, and would be what all wait for.
            let socket = format!("unix://{}", fleet.engine.socket().display());
            let past_it = ("TRAINYARD_DOCKER_HOST".to_owned(), socket);
            let daemon = fleet.first_mut();
            daemon.set_variables(vec![past_it]);
            daemon.restart_after(Duration::ZERO);
            fleet
        },
        |_, fleet| {
            let bound = BOUND + Duration::from_secs(mebibytes);
            let quiet = beside(fleet);
            let before = fleet.first().memory();
            let run = fleet.trigger();
            let attempt = format!("{run}.prints.1");
            let account = || fleet.witness.accounts().get(&attempt).copied().unwrap_or_default();
            until_true("the start of what prints", BOUND, || account().starts == 1);
            let container = until("its container", BOUND, || {
                let label = "label=io.trainyard.stage=prints";
                let found = fleet.engine.docker(&["ps", "--quiet", "--filter", label]);
                if found.is_empty() { Err(found) } else { Ok(found) }
            });
            let folder = fleet.engine.folder_of(&container);
            until("the preface, stored", BOUND, || match stored(fleet, run) {
                stored if stored >= PREFACE << 20 => Ok(()),
                stored => Err(stored.to_string()),
            });
            let path = format!("/api/v1/runs/{run}/stages/prints/log");
            let viewers = Viewers::of(fleet.first().get(), &path, PREFACE << 20, VIEWERS);
            until("viewers who do not read their answers", BOUND, || match viewers.held_back() {
                VIEWERS => Ok(()),
                less => Err(less.to_string()),
            });
            let (mut memory, mut spill, mut held_back) = (fleet.first().memory(), 0, 0);
            let for_viewers = memory.saturating_sub(before);
            let ended = AtomicBool::new(false);
            let (mut slowest, mut passed) = (Duration::ZERO, 0);
            fleet.witness.open(run);
            let begun = Instant::now();
            let mut printed = Duration::ZERO;
            let fleet: &Fleet = fleet;
            std::thread::scope(|scope| {
                let others = scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        slowest = beside(fleet).max(slowest);
                        passed += 1;
                    }
                });
                // The viewers do not read all the while: a stage that waited for them would never end.
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    until("all that it prints", bound, || {
                        memory = fleet.first().memory().max(memory);
                        spill = size_of(&folder).max(spill);
                        if account().ends == 1 { Ok(()) } else { Err("not yet".to_owned()) }
                    });
                    printed = begun.elapsed();
                    held_back = viewers.held_back();
                    until("the end of its run", bound, || {
                        memory = fleet.first().memory().max(memory);
                        let state = fleet.cluster.sql(&format!("select finished_at is not null from run where id = {run}"));
                        if state == "t" { Ok(()) } else { Err(state) }
                    });
                }));
                ended.store(true, Ordering::Relaxed);
                let _ = others.join();
                done.unwrap();
            });
            let recovery = begun.elapsed().saturating_sub(printed);
            drop(viewers);
            let shown = fleet.finished(run, BOUND);
            let mut violations = fleet.violations();
            if shown["state"] != "succeeded" {
                violations.push(format!("the run did not succeed: {shown}"));
            }
            if held_back < VIEWERS {
                violations.push(format!("only {held_back} viewers held their answers back to the end"));
            }
            let growth = memory.saturating_sub(before);
            let stored = stored(fleet, run);
            report(&format!(
                "F24 {what}: printed in {printed:.1?}, read {recovery:.1?} later, grew by {} MiB, of \
                 which {} for viewers, {held_back} of whom do not read; at most {} MiB in Docker's log, {} MiB kept; \
                 another run took {slowest:.2?} at most ({passed} of them, {quiet:.2?} before)",
                growth >> 20,
                for_viewers >> 20,
                spill >> 20,
                stored >> 20,
            ));
            for (what, figure, most) in [
                ("the daemon grew by", growth, GROWTH),
                ("Docker's log took", spill, SPILL),
                ("of the log was kept", stored, KEPT),
            ] {
                if figure > most {
                    violations.push(format!("{what} {figure} bytes"));
                }
            }
            if slowest > within(BESIDE + 4 * quiet) {
                violations.push(format!("another run took {slowest:?}"));
            }
            violations.extend(judge_log(fleet, run, PREFACE + mebibytes));
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

/// How long another run takes, from its trigger to its end.
fn beside(fleet: &Fleet) -> Duration {
    let (_, took) = timed(|| {
        let run = fleet.first().get().json(&["dag", "trigger", "beside"]);
        fleet.finished(run["id"].as_i64().unwrap(), BOUND)
    });
    took
}

/// The size of a folder's files, in bytes; 0 if it is gone.
fn size_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|about| about.len())
        .sum()
}

/// How many bytes are kept of a run's log.
fn stored(fleet: &Fleet, run: i64) -> u64 {
    let sum = fleet.cluster.sql(&format!(
        "select coalesce(sum(c.length), 0) from log_chunk c join attempt a on a.id = c.attempt where a.run = {run}"
    ));
    sum.parse().unwrap()
}

/// The violations of a stored log of which so much was printed.
fn judge_log(fleet: &Fleet, run: i64, mebibytes: u64) -> Vec<String> {
    let log = fleet
        .first()
        .get()
        .cli(&["run", "logs", &run.to_string()])
        .good()
        .stdout;
    let lines: Vec<&str> = log.lines().collect();
    let (first, last) = (lines.first().copied(), lines.last().copied());
    let mut violations = Vec::new();
    if !first.is_some_and(|line| line.ends_with("the first line")) {
        violations.push(format!("it begins with {first:?}"));
    }
    if !last.is_some_and(|line| line.ends_with("the last line")) {
        let end: String = last.unwrap_or_default().chars().take(200).collect();
        violations.push(format!("it ends with {end:?}"));
    }
    let marks = lines
        .iter()
        .filter(|line| line.contains("from the middle of the log are not kept"))
        .count();
    if mebibytes > 17 && marks != 1 {
        violations.push(format!("{marks} marks say that something was left out"));
    }
    violations
}

#[test]
fn a_line_without_end_is_cut() {
    let size = argument("RIG_LINE_MIB", 100, 100);
    let bytes = size << 20;
    let print = format!("head -c {bytes} /dev/zero | tr \"\\0\" x; echo");
    printing("a line without end", &print, size);
}

#[test]
fn of_a_vast_log_the_beginning_and_the_end_are_kept() {
    let size = argument("RIG_LOG_MIB", 100, 10_240);
    let line = "0123456789".repeat(100);
    let print = format!("yes {line} | head -c {} || true; echo", size << 20);
    printing("a vast log", &print, size);
}

/// Lines of a usual length. Docker 20.10 holds up to a megabyte of what was printed before it is in its log, and
/// closes the log two seconds after the program's end: of lines of two bytes, as `yes` alone prints them, that is
/// half a million entries, whose last a busy machine does not write in time. No daemon can read those.
#[test]
fn a_stage_prints_as_fast_as_it_can() {
    let lines = argument("RIG_LINES", 200_000, 60_000_000);
    let line = "0123456789".repeat(4);
    // With the time that stands before each where it is kept.
    let mebibytes = (lines * 74) >> 20;
    let print = format!("yes {line} | head -n {lines} || true");
    printing("lines at full speed", &print, mebibytes);
}

#[test]
fn output_that_is_not_text_is_kept_as_far_as_possible() {
    let size = argument("RIG_BINARY_MIB", 8, 200);
    // Of what carriage returns write over, the last is kept.
    let print = format!("head -c {} /dev/urandom | tr \"\\r\" x; echo", size << 20);
    // A byte that is not text takes three bytes.
    printing("no text", &print, 2 * size);
}
