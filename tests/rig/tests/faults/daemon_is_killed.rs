//! F2: the daemon is killed at a random moment while it has room for 20 stages and more of them wait. Nothing
//! starts twice, nothing is lost, and the next one has everything in hand within seconds.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::wait::until;

use crate::{BOUND, report, timed};

/// A run's stages, and how many run at the same time. Twice as many at the least have not ended when the time before
/// a kill begins, so about as many are under way at the kill, but where it comes as the first begin.
const STAGES: usize = 20;

/// After so many kills all that was under way is waited for, and judged.
const KILLS: u32 = 5;

const IN_HAND: Duration = Duration::from_secs(10);

/// Runs that go on while the daemon is killed again and again.
struct Load {
    fleet: Fleet,
    runs: Vec<i64>,
    /// How many attempts were claimed or ran at each kill.
    under_way: Vec<usize>,
}

impl Load {
    /// Starts runs until there are stages enough that have not ended.
    fn top_up(&mut self) {
        let left = || {
            let left = self.fleet.cluster.sql(
                "select count(*) from stage_run s join run r on r.id = s.run
                 where r.phase <> 'finished' and s.state <> 'finished'",
            );
            left.parse::<usize>().unwrap()
        };
        while left() < 2 * STAGES {
            self.runs.push(self.fleet.trigger());
        }
    }

    /// Kills the daemon, and returns how much was under way.
    fn kill(&mut self) -> usize {
        self.fleet.first_mut().kill();
        // Nothing else changes it.
        let under_way = self
            .fleet
            .cluster
            .sql("select count(*) from attempt where state in ('claimed', 'running')");
        let under_way = under_way.parse().unwrap();
        self.under_way.push(under_way);
        under_way
    }

    /// Says how much was under way at the kills so far.
    fn report(&self) {
        let mut sorted = self.under_way.clone();
        sorted.sort_unstable();
        report(&format!(
            "F2: under way at {} kills: {} (median), {} to {}",
            sorted.len(),
            sorted[sorted.len() / 2],
            sorted[0],
            sorted[sorted.len() - 1]
        ));
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
        let mut violations = Vec::new();
        for run in std::mem::take(&mut self.runs) {
            let ended = self.fleet.finished(run, BOUND);
            if ended["state"] != "succeeded" {
                violations.push(format!("a run did not succeed: {ended}"));
            }
        }
        violations.extend(self.fleet.violations());
        let attempts = self.fleet.attempts().into_keys();
        let again = attempts.filter(|attempt| !attempt.ends_with(".1"));
        violations.extend(again.map(|attempt| format!("an attempt was lost: there is {attempt}")));
        let unstarted = self
            .fleet
            .cluster
            .sql("select count(*) from attempt where outcome = 'succeeded' and started_at is null");
        if unstarted != "0" {
            violations.push(format!("{unstarted} attempts ended that never started"));
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
            under_way: Vec::new(),
        },
        |trial, load| {
            let mut dice = trial.dice();
            load.top_up();
            // From before the first container to about the last one's end.
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(5)));
            let under_way = load.kill();
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
                load.report();
            }
            if under_way > STAGES {
                violations.push(format!(
                    "{under_way} under way at once, and {STAGES} may be"
                ));
            }
            if recovery > within(IN_HAND) {
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
