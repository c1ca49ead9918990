//! F14: the power fails: engine, shims, containers and daemon are gone at once. Nothing runs twice
//! afterwards, and nothing that has not come to its end counts as a success.

use std::time::{Duration, Instant};

use trainyard_rig::engine::Killed;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::{Trials, Verdict};

use crate::{BOUND, report, timed};

const STAGES: usize = 8;

/// Attempts whose end could not be proved, since the daemon started.
const LOST: &str = "trainyard_attempts_finished_total{outcome=\"lost\"}";

/// After a power cut Docker 20.10 has been seen to answer nothing more about a container, until it was restarted.
const HUNG: Duration = Duration::from_secs(120);

/// Whether a run has finished within this time.
fn has_finished(fleet: &Fleet, run: i64, within: Duration) -> bool {
    let begun = Instant::now();
    let phase = format!("select phase from run where id = {run}");
    while begun.elapsed() < within {
        if fleet.cluster.sql(&phase) == "finished" {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn after_a_power_cut_nothing_runs_twice_and_nothing_unproved_succeeds() {
    let trials = Trials::new("F14 power cut", "0 false successes, 0 duplicates", 2).long(100);
    let summary = trials.run(
        |trial| {
            Fleet::with_wide_dag(&FleetOptions::new(trial.seed), STAGES, |_| {
                "sleep 4".to_owned()
            })
        },
        |trial, fleet| {
            let run = fleet.trigger();
            // From before the first container to about the last one's end.
            std::thread::sleep(trial.dice().between(Duration::ZERO, Duration::from_secs(5)));
            fleet.first_mut().kill();
            fleet.engine.kill(Killed::Everything);
            // Nothing has changed it since.
            let under_way = fleet.cluster.sql(&format!(
                "select count(*) from attempt where run = {run} and state in ('claimed', 'running')"
            ));
            fleet.engine.up();
            fleet.first_mut().start();
            let (_, recovery) = timed(|| {
                if !has_finished(fleet, run, HUNG) {
                    report(&format!(
                        "F14: restarting a Docker engine that hangs, in trial {}",
                        trial.number
                    ));
                    fleet.engine.kill(Killed::Dockerd);
                    fleet.engine.up();
                }
                fleet.finished(run, BOUND)
            });
            let mut violations = fleet.violations();
            // The daemon before has counted nothing of this run: it died first.
            let lost = fleet.cluster.sql(&format!(
                "select count(*) from attempt where run = {run} and outcome = 'lost'"
            ));
            let figure = fleet.first().get().figure(LOST);
            report(&format!(
                "F14: {under_way} attempts under way at a power cut, {lost} lost"
            ));
            if figure.to_string() != lost {
                violations.push(format!(
                    "{figure} lost by the metric, but {lost} by the table"
                ));
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
