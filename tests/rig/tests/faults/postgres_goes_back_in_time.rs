//! F7: a failover loses the last seconds of commits. Containers are there that the database does not
//! know, or that it believes were never created, or that ended and were removed. None is left
//! unaccounted for, and no attempt gets a second container.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use trainyard_rig::failover::Past;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trial, Trials, Verdict};
use trainyard_tests::wait::{until, until_true};

use crate::{BOUND, timed};

const STAGES: usize = 4;

/// How long a container that the database does not know may go unreported: the daemon's grace for rows
/// on their way, one more look, and stopping it.
const REPORTED: Duration = Duration::from_secs(60 + 5 + 15);

/// A fault that takes half a minute and more by design has no trial in the gate.
const LONG_ONLY: u32 = 0;

fn fleet(trial: Trial, work: &str) -> Fleet {
    Fleet::with_wide_dag(&FleetOptions::new(trial.seed), STAGES, |_| work.to_owned())
}

/// Attempts whose containers were started more than once, by Docker's events.
fn started_twice(fleet: &Fleet, since: Instant) -> Vec<String> {
    let seconds = since.elapsed().as_secs() + 2;
    let events = fleet.engine.docker(&[
        "events",
        "--since",
        &format!("{seconds}s"),
        "--until",
        "0s",
        "--filter",
        "event=start",
        "--format",
        "{{index .Actor.Attributes \"io.trainyard.attempt\"}}",
    ]);
    assert!(!events.is_empty(), "Docker reports no start");
    let mut seen = BTreeSet::new();
    events
        .lines()
        .filter(|attempt| !attempt.is_empty() && !seen.insert((*attempt).to_owned()))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn running_attempts_are_adopted_again_and_nothing_runs_twice() {
    let trials = Trials::new(
        "F7 failover loses 1 to 5 s, attempts known",
        "0 attempts with two containers, 0 orphans",
        1,
    )
    .long(5);
    let summary = trials.run(
        |trial| fleet(trial, "sleep 3"),
        |trial, fleet| {
            let mut dice = trial.dice();
            let begun = Instant::now();
            let run = fleet.trigger();
            // From before the first claim's effects to after the removal of the first containers.
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(3)));
            let past = Past::of(&fleet.cluster);
            std::thread::sleep(dice.between(Duration::from_secs(1), Duration::from_secs(5)));
            past.restore(&fleet.cluster);
            let (ended, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut violations = outside_the_witness(fleet);
            for attempt in started_twice(fleet, begun) {
                violations.push(format!("attempt {attempt} was started twice"));
            }
            if ended["state"] != "succeeded" {
                violations.push(format!("the run did not succeed: {ended}"));
            }
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

/// The attempts of one run; a fleet has those of earlier trials as well.
fn attempts_of(fleet: &Fleet, run: i64) -> BTreeMap<String, String> {
    let mut attempts = fleet.attempts();
    attempts.retain(|attempt, _| attempt.starts_with(&format!("{run}.")));
    attempts
}

#[test]
fn an_attempt_that_ended_and_is_queued_again_gets_no_second_container() {
    let trials = Trials::new(
        "F7 failover forgets ends, attempts queued again",
        "0 attempts with two containers",
        LONG_ONLY,
    )
    .long(5);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                // One after the other: while the first runs, the others wait.
                parallelism: 1,
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, STAGES, |_| "sleep 1".to_owned())
        },
        |_, fleet| {
            let begun = Instant::now();
            let started = fleet.witness.started();
            let run = fleet.trigger();
            until_true("the first start", BOUND, || {
                fleet.witness.started() > started
            });
            let past = Past::of(&fleet.cluster);
            let waiting = attempts_of(fleet, run).len();
            let _ = fleet.finished(run, BOUND);
            past.restore(&fleet.cluster);
            let (ended, recovery) = timed(|| fleet.finished(run, BOUND));
            let mut violations = outside_the_witness(fleet);
            for attempt in started_twice(fleet, begun) {
                violations.push(format!("attempt {attempt} was started twice"));
            }
            let lost = attempts_of(fleet, run)
                .values()
                .filter(|outcome| *outcome == "lost")
                .count();
            if ended["state"] != "succeeded" || lost == 0 || lost > waiting {
                violations.push(format!("{lost} of {waiting} attempts are lost: {ended}"));
            }
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

/// What is wrong, but for what the database has forgotten: runs' numbers may be given twice by a
/// database that went back, so the witness' names prove nothing here. Docker's are.
fn outside_the_witness(fleet: &Fleet) -> Vec<String> {
    let found = fleet.violations().into_iter();
    found
        .filter(|violation| !violation.starts_with("ran more than once"))
        .collect()
}

#[test]
fn containers_that_the_database_forgot_are_stopped_and_reported() {
    let trials = Trials::new(
        "F7 failover loses whole runs",
        "0 unaccounted containers 80 s later",
        LONG_ONLY,
    )
    .long(3);
    let summary = trials.run(
        |trial| fleet(trial, "sleep 300"),
        |_, fleet| {
            let instance = fleet.cluster.sql("select id from instance");
            let past = Past::of(&fleet.cluster);
            let _ = fleet.trigger();
            until_true("the start of all stages", BOUND, || {
                let seen = fleet.engine.containers_of(&instance);
                seen.iter().filter(|seen| seen.state == "running").count() == STAGES
            });
            past.restore(&fleet.cluster);
            let (_, recovery) = timed(|| {
                until("the stop of all", within(REPORTED), || {
                    let seen = fleet.engine.containers_of(&instance);
                    if seen.iter().all(|seen| seen.state == "exited") {
                        Ok(())
                    } else {
                        Err(format!("{seen:?}"))
                    }
                });
            });
            let log = fleet.first().log();
            let mut violations: Vec<String> = fleet
                .engine
                .containers_of(&instance)
                .into_iter()
                .filter(|seen| !log.contains(&seen.container))
                .map(|seen| format!("not reported: {seen:?}"))
                .collect();
            // A container that is kept for inspection is the next trial's orphan: remove it.
            for seen in fleet.engine.containers_of(&instance) {
                let _ = fleet.engine.docker(&["rm", "-f", &seen.container]);
            }
            violations.extend(outside_the_witness(fleet));
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
