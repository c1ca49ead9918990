//! F4: Postgres restarts, in order or not, at random moments. Stages go on; the daemon goes on as soon
//! as Postgres does.

use std::time::Duration;

use trainyard_rig::cluster::Mode;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::Trials;
use trainyard_tests::wait::until;

use crate::{BOUND, judge, timed};

#[test]
fn stages_run_on_and_the_daemon_is_ready_again_at_once() {
    let trials = Trials::new(
        "F4 Postgres restarted",
        "0 failed stages, ready 5 s after Postgres",
        4,
    )
    .long(200);
    let summary = trials.run(
        |trial| Fleet::with_wide_dag(&FleetOptions::new(trial.seed), 8, |_| "sleep 2".to_owned()),
        |trial, fleet| {
            let mut dice = trial.dice();
            let run = fleet.trigger();
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(3)));
            match dice.below(3) {
                0 => fleet.cluster.restart(Mode::Fast),
                1 => fleet.cluster.restart(Mode::Immediate),
                _ => {
                    fleet.cluster.kill();
                    fleet.cluster.up();
                }
            }
            let ((), recovery) = timed(|| {
                until("an answer of the daemon", BOUND, || {
                    let answer = fleet.first().get().cli(&["run", "list"]);
                    if answer.code == Some(0) {
                        Ok(())
                    } else {
                        Err(format!("{answer:?}"))
                    }
                });
            });
            let mut verdict = judge(fleet, run, Some(recovery));
            if recovery > within(Duration::from_secs(5)) {
                verdict.violations.push(format!("ready after {recovery:?}"));
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
