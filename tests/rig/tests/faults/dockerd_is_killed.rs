//! F9: dockerd is killed, or restarted in order. With live-restore stages go on unaffected; without it, they are
//! killed or asked to stop, and that never counts as success, nor as a cancel.

use std::time::Duration;

use trainyard_rig::engine::{EngineOptions, Killed};
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until_true;

use crate::{BOUND, judge, timed};

const STAGES: usize = 6;

fn fleet(seed: u64, live_restore: bool) -> Fleet {
    let options = FleetOptions {
        engine: EngineOptions {
            live_restore,
            ..EngineOptions::default()
        },
        ..FleetOptions::new(seed)
    };
    Fleet::with_wide_dag(&options, STAGES, |_| "sleep 6".to_owned())
}

/// Starts a run, and waits until all its stages say that they run.
fn running(fleet: &Fleet) -> i64 {
    let before = fleet.witness.started();
    let run = fleet.trigger();
    until_true("the start of all stages", BOUND, || {
        fleet.witness.started() == before + STAGES
    });
    run
}

#[test]
fn with_live_restore_stages_go_on() {
    let trials = Trials::new("F9 dockerd killed, live-restore", "0 lost, 0 duplicates", 1).long(25);
    let summary = trials.run(
        |trial| fleet(trial.seed, true),
        |trial, fleet| {
            let run = running(fleet);
            fleet.engine.kill(Killed::Dockerd);
            let down = trial.dice().between(Duration::ZERO, Duration::from_secs(3));
            std::thread::sleep(down);
            fleet.engine.up();
            judge(fleet, run, None)
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn without_live_restore_a_killed_stage_never_succeeds() {
    let trials = Trials::new(
        "F9 dockerd killed",
        "0 false successes, detected 10 s after its start",
        2,
    )
    .long(50);
    let summary = trials.run(
        |trial| fleet(trial.seed, false),
        |trial, fleet| {
            let run = running(fleet);
            fleet.engine.kill(if trial.dice().chance(0.5) {
                Killed::Dockerd
            } else {
                Killed::Everything
            });
            fleet.engine.up();
            let (_, recovery) = timed(|| {
                until_true("the end of what was killed", BOUND, || {
                    let attempts = fleet.attempts();
                    let first = |(attempt, outcome): (&String, &String)| {
                        attempt.starts_with(&format!("{run}."))
                            && attempt.ends_with(".1")
                            && outcome.is_empty()
                    };
                    !attempts.iter().any(first)
                });
            });
            let _ = fleet.finished(run, BOUND);
            let mut violations = fleet.violations();
            if recovery > within(Duration::from_secs(10)) {
                violations.push(format!("detected after {recovery:?}"));
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

#[test]
fn stages_that_a_docker_restart_stops_are_errored_and_retried() {
    let trials = Trials::new(
        "F9 dockerd restarted in order",
        "stopped stages errored and retried, 0 cancelled, 0 false successes",
        1,
    )
    .long(25);
    let summary = trials.run(
        |trial| {
            // Programs that catch the signal, and end well by their own account.
            let work = "trap \"exit 0\" TERM; n=0; while [ $n -lt 60 ]; do sleep 0.1; n=$((n+1)); done";
            Fleet::start(&FleetOptions::new(trial.seed), |witness| {
                let script = witness.script(work);
                let stage = |number| {
                    format!(
                        "  s{number}: {{image: \"{IMAGE}\", checkout: false, retry: {{attempts: 2, backoff: 1s}}, \
                         run: '{script}'}}\n"
                    )
                };
                let stages: String = (1..=STAGES).map(stage).collect();
                vec![("dags/dag.yaml".to_owned(), format!("stages:\n{stages}"))]
            })
        },
        |_, fleet| {
            let run = running(fleet);
            fleet.engine.stop();
            let (ended, recovery) = timed(|| {
                fleet.engine.up();
                fleet.finished(run, BOUND)
            });
            let mut violations = fleet.violations();
            if ended["state"] != "succeeded" {
                violations.push(format!("not made up for by the retry rule: {ended}"));
            }
            for (attempt, outcome) in fleet.attempts() {
                let is_first = attempt.starts_with(&format!("{run}.")) && attempt.ends_with(".1");
                if is_first && outcome != "errored" {
                    violations.push(format!("{attempt}, stopped by its Docker engine, is {outcome}"));
                }
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
