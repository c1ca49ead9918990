//! F23: hundreds of invalid and hostile DAG files are next to good ones in one repo. Each is shown with its faults;
//! the good ones run as before, and the daemon restarts with all of them.
//!
//! `RIG_POISONED` says how many there are.

use std::time::{Duration, Instant};

use trainyard_rig::fleet::{Fleet, FleetOptions, REPO};
use trainyard_rig::poison;
use trainyard_rig::programme::{argument, is_long};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;

use crate::{BOUND, report, timed};

/// The gate's, and the long programme's.
const POISONED: u64 = 100;
const LONG_POISONED: u64 = 500;

const GOOD: usize = 10;

/// How much longer the good ones' runs may take next to poison, apart from their usual spread.
const SLOWER: f64 = 1.1;

/// How long runs take: in the middle, and how far the longest is from the shortest.
#[derive(Debug, Clone, Copy)]
struct Usual {
    middle: Duration,
    spread: Duration,
}

fn good(number: usize, change: &str) -> (String, String) {
    let text = format!(
        "stages: {{say: {{image: \"{IMAGE}\", checkout: false, run: \"true\"}}}}\n# {change}\n"
    );
    (format!("dags/good{number}.yaml"), text)
}

/// How long a run of each good DAG takes from its trigger to its end.
fn usual(fleet: &Fleet, violations: &mut Vec<String>) -> Usual {
    let mut times: Vec<Duration> = (0..GOOD)
        .map(|number| {
            let (ended, took) = timed(|| {
                let run = fleet
                    .first()
                    .get()
                    .json(&["dag", "trigger", &format!("good{number}")]);
                fleet.finished(run["id"].as_i64().unwrap(), BOUND)
            });
            if ended["state"] != "succeeded" {
                violations.push(format!("good{number} did not succeed: {ended}"));
            }
            took
        })
        .collect();
    times.sort_unstable();
    Usual {
        middle: times[GOOD / 2],
        spread: times[GOOD - 1] - times[0],
    }
}

#[test]
fn every_file_is_shown_with_its_fault_and_the_good_ones_run() {
    let count = usize::try_from(argument("RIG_POISONED", POISONED, LONG_POISONED)).unwrap();
    let trials = Trials::new(
        &format!("F23 {count} poisoned files next to {GOOD} good ones"),
        "0 panics, all shown, the good ones run within 10 %",
        1,
    )
    .long(5);
    let summary = trials.run(
        |trial| {
            Fleet::start(&FleetOptions::new(trial.seed), |_| {
                (0..GOOD).map(|number| good(number, "first")).collect()
            })
        },
        |trial, fleet| {
            let mut violations = Vec::new();
            let _ = usual(fleet, &mut violations);
            let before = usual(fleet, &mut violations);
            let mut dice = trial.dice();
            let folder = fleet.remote.tree().join("dags");
            for number in 0..count {
                let file = folder.join(format!("poison{number}.yaml"));
                std::fs::write(file, poison::file(number, &mut dice)).unwrap();
            }
            let changed: Vec<(String, String)> = (0..GOOD)
                .map(|number| good(number, &format!("changed by {}", trial.number)))
                .collect();
            let changed: Vec<(&str, &str)> = changed
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            let commit = fleet.remote.push("main", &changed);
            let begun = Instant::now();
            let synced = std::thread::scope(|scope| {
                let sync = scope.spawn(|| {
                    timed(|| fleet.first().get().cli(&["repo", "sync", REPO]).good()).1
                });
                let beside = usual(fleet, &mut violations);
                (sync.join().unwrap(), beside)
            });
            report(&format!(
                "F23: {count} poisoned files read after {:?}; a good run takes {before:?}, meanwhile {:?}",
                synced.0, synced.1
            ));
            let shown = fleet.cluster.sql(&format!(
                "select count(*) from dag_fault where commit = '{commit}' and path like 'dags/poison%'
                    and jsonb_array_length(diagnostics) > 0"
            ));
            if shown != count.to_string() {
                let valid = fleet.cluster.sql(&format!(
                    "select string_agg(path || ': ' || left(source, 200), '; ') from dag_version
                     where commit = '{commit}' and path like 'dags/poison%'"
                ));
                violations.push(format!(
                    "{shown} of {count} poisoned files are shown with faults; taken for good: {valid}"
                ));
            }
            let current = fleet.cluster.sql(&format!(
                "select count(*) from dag d join dag_version v on v.id = d.current_version
                 where v.commit = '{commit}' and d.name like 'good%'"
            ));
            if current != GOOD.to_string() {
                violations.push(format!("{current} of {GOOD} good files were read"));
            }
            let after = usual(fleet, &mut violations);
            report(&format!("F23: with them in place a good run takes {after:?}"));
            if is_long() && after.middle > before.middle.mul_f64(SLOWER) + before.spread {
                violations.push(format!("a good run took {before:?}, and {after:?} since"));
            }
            let recovery = fleet.first_mut().restart_after(Duration::ZERO);
            let _ = fleet.first().get().cli(&["repo", "sync", REPO]).good();
            let _ = usual(fleet, &mut violations);
            let held = fleet.cluster.sql("select count(*) from quarantine");
            if held != "0" {
                violations.push(format!("{held} quarantined, although an invalid file quarantines nothing"));
            }
            if fleet.first().log().contains("panicked") {
                violations.push("something panicked; the daemon's log says what".to_owned());
            }
            report(&format!("F23: all reported after {:?}", begun.elapsed()));
            violations.extend(fleet.violations());
            // No stage speaks to the witness here.
            violations.retain(|printed| !printed.starts_with("succeeded without"));
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
