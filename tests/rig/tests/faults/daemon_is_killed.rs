//! F2: the daemon is killed at a random moment with 20 stages under way. Nothing starts twice, nothing
//! is lost, and the next one has everything in hand within seconds.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::Trials;
use trainyard_tests::wait::until;

use crate::{BOUND, judge, timed};

const STAGES: usize = 20;

#[test]
fn twenty_stages_outlive_their_daemon() {
    let trials = Trials::new(
        "F2 daemon killed, 20 stages",
        "0 run twice, 0 lost, readopted p99 10 s",
        5,
    );
    let summary = trials.run(
        |trial| {
            Fleet::with_wide_dag(&FleetOptions::new(trial.seed), STAGES, |_| {
                "sleep 3".to_owned()
            })
        },
        |trial, fleet| {
            let mut dice = trial.dice();
            let run = fleet.trigger();
            // From before the first container to about the last one's end.
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(12)));
            fleet.first_mut().kill();
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(1)));
            let ((), recovery) = timed(|| {
                fleet.first_mut().start();
                until("all in hand again", BOUND, || {
                    let orphaned = fleet.cluster.sql(
                        "select count(*) from attempt a join daemon d on d.id = a.owner
                         where a.state in ('claimed', 'running') and d.stopped_at is not null",
                    );
                    if orphaned == "0" {
                        Ok(())
                    } else {
                        Err(orphaned)
                    }
                });
            });
            let mut verdict = judge(fleet, run, Some(recovery));
            let untold = fleet.cluster.sql(
                "select count(*) from attempt where outcome = 'succeeded' and started_at is null",
            );
            if untold != "0" {
                verdict
                    .violations
                    .push(format!("{untold} attempts ended that never started"));
            }
            if recovery > Duration::from_secs(10) {
                verdict
                    .violations
                    .push(format!("in hand after {recovery:?}"));
            }
            verdict
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
