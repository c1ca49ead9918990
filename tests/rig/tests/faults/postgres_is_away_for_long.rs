//! F5: Postgres is away while stages run and end. Their containers finish by themselves; how they ended
//! is fetched and recorded once it is back, and the daemon does not swell meanwhile.
//!
//! `RIG_OUTAGE_SECONDS` says how long it is away.

use std::time::{Duration, Instant};

use trainyard_rig::cluster::Mode;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::argument;
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until_true;

use crate::{BOUND, report, timed};

const STAGES: usize = 8;

/// The most that the daemon may grow by meanwhile.
const GROWTH: u64 = 50 << 20;

const OUTAGE: u64 = 20;

const LONG_OUTAGE: u64 = 600;

#[test]
fn no_exit_code_is_lost() {
    let seconds = argument("RIG_OUTAGE_SECONDS", OUTAGE, LONG_OUTAGE);
    let outage = Duration::from_secs(seconds);
    let trials = Trials::new(
        &format!("F5 Postgres away for {seconds} s"),
        "0 lost exit codes, 50 MiB of growth",
        1,
    );
    let summary = trials.run(
        |trial| {
            Fleet::start(&FleetOptions::new(trial.seed), |witness| {
                let mut text = "stages:\n".to_owned();
                for number in 0..STAGES {
                    // A hundred kilobytes of log each, which the database does not take.
                    let work = format!(
                        "{}; yes 0123456789abcdef | head -n 6000 || true",
                        witness.gate()
                    );
                    let script = witness.script(&work);
                    text.push_str(&format!(
                        "  s{number}: {{image: \"{IMAGE}\", checkout: false, run: '{script}; exit {number}'}}\n"
                    ));
                }
                vec![("dags/dag.yaml".to_owned(), text)]
            })
        },
        |_, fleet| {
            let (started, ended) = (fleet.witness.started(), fleet.witness.ended());
            let run = fleet.trigger();
            until_true("the start of all stages", BOUND, || {
                fleet.witness.started() == started + STAGES
            });
            let before = fleet.first().memory();
            fleet.cluster.down(Mode::Fast);
            let away = Instant::now();
            fleet.witness.open(run);
            until_true("the end of all programs", BOUND, || {
                fleet.witness.ended() == ended + STAGES
            });
            let mut most = 0;
            while away.elapsed() < outage {
                most = fleet.first().memory().max(most);
                std::thread::sleep(Duration::from_millis(200));
            }
            fleet.cluster.up();
            let (_, recovery) = timed(|| fleet.finished(run, BOUND));
            most = fleet.first().memory().max(most);
            let mut violations = fleet.violations();
            let growth = most.saturating_sub(before);
            report(&format!("F5: grew by {} KiB", growth / 1024));
            if growth > GROWTH {
                violations.push(format!("the daemon grew by {growth} bytes"));
            }
            for number in 0..STAGES {
                let reported = fleet.cluster.sql(&format!(
                    "select a.outcome || ' ' || coalesce(a.reason_message, '') from attempt a
                     join stage_run s on s.run = a.run and s.position = a.stage
                     where a.run = {run} and s.name = 's{number}' and a.number = 1"
                ));
                let right = if number == 0 {
                    reported.starts_with("succeeded")
                } else {
                    reported.starts_with(&format!("failed exit code {number}"))
                };
                if !right {
                    violations.push(format!("s{number} exited with {number}, recorded: {reported}"));
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
