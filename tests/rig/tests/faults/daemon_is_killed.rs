//! F2: the daemon is killed at a random moment with 20 stages under way. Nothing starts twice, nothing
//! is lost, and the next one has everything in hand within seconds.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::wait::until;

use crate::{BOUND, judge, timed};

/// A run's stages, and how many are under way at the least when the daemon is killed.
const STAGES: usize = 20;

/// After so many kills all that was under way is waited for, and judged.
const KILLS: u32 = 5;

/// Readopted by then.
const IN_HAND: Duration = Duration::from_secs(10);

/// Runs that go on while the daemon is killed again and again.
struct Load {
    fleet: Fleet,
    runs: Vec<i64>,
}

impl Load {
    /// Starts runs until there are stages enough that have not ended.
    fn top_up(&mut self) {
        let left = self.fleet.cluster.sql(
            "select count(*) from stage_run s join run r on r.id = s.run
             where r.phase <> 'finished' and s.state <> 'finished'",
        );
        if left.parse::<usize>().unwrap() < STAGES {
            self.runs.push(self.fleet.trigger());
        }
    }

    /// Attempts whose daemon is gone, and that no other has taken in hand.
    fn orphaned(&self) -> String {
        self.fleet.cluster.sql(
            "select count(*) from attempt a join daemon d on d.id = a.owner
             where a.state in ('claimed', 'running') and d.stopped_at is not null",
        )
    }

    /// Waits for all runs.
    fn judged(&mut self) -> Vec<String> {
        let mut violations: Vec<String> = std::mem::take(&mut self.runs)
            .into_iter()
            .flat_map(|run| judge(&self.fleet, run, None).violations)
            .collect();
        let untold = self
            .fleet
            .cluster
            .sql("select count(*) from attempt where outcome = 'succeeded' and started_at is null");
        if untold != "0" {
            violations.push(format!("{untold} attempts ended that never started"));
        }
        violations
    }
}

#[test]
fn twenty_stages_outlive_their_daemon() {
    let trials = Trials::new(
        "F2 daemon killed, 20 stages",
        "0 run twice, 0 lost, readopted p99 10 s",
        KILLS,
    )
    .long(1_000);
    let summary = trials.run(
        |trial| Load {
            fleet: Fleet::with_wide_dag(&FleetOptions::new(trial.seed), STAGES, |_| {
                "sleep 3".to_owned()
            }),
            runs: Vec::new(),
        },
        |trial, load| {
            let mut dice = trial.dice();
            load.top_up();
            // From before the first container to about the last one's end.
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(5)));
            load.fleet.first_mut().kill();
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(1)));
            let ((), recovery) = timed(|| {
                load.fleet.first_mut().start();
                until("all in hand again", BOUND, || {
                    let orphaned = load.orphaned();
                    if orphaned == "0" {
                        Ok(())
                    } else {
                        Err(orphaned)
                    }
                });
            });
            let mut violations = Vec::new();
            if trial.last || trial.number.is_multiple_of(KILLS) {
                violations = load.judged();
            }
            if recovery > IN_HAND {
                violations.push(format!("in hand after {recovery:?}"));
            }
            Verdict {
                violations,
                recovery: Some(recovery),
            }
        },
        |load| load.fleet.testimony(),
    );
    summary.assert_clean(&trials);
}
