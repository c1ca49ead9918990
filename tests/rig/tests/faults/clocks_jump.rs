//! F17: clocks jump, by an hour or a day, there and back, while stages run and a tick is near: the database's clock,
//! which decides, the daemons' own, which only stamp, or both. Leases count by monotonic time, both for the daemon
//! that holds one and for those that watch it, so no attempt is adopted. No tick fires twice, none that passed is
//! left out, and no stage ends by its timeout too early.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use trainyard_rig::clock::Clocks;
use trainyard_rig::dice::Dice;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::Trials;
use trainyard_rig::witness::Witness;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until;

use crate::{BOUND, judge, report, timed};

/// A run's stages, more than half of which run at the same time.
const STAGES: usize = 8;

const DAEMONS: usize = 2;

/// Every stage's, much longer than it runs, and shorter than every jump.
const TIMEOUT: &str = "5m";

/// The time between two ticks. A day has fewer than the 100 that are made up for at most.
const EVERY: TimeDelta = TimeDelta::minutes(20);

/// All leases hold and all ticks have fired, from the last jump on: a renewal is due every 5 s, a pass of the
/// scheduler every 10 s.
const WELL: Duration = Duration::from_secs(15);

/// The lease of those that are killed, the shortest there is.
const LEASE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Database,
    Daemons,
    Both,
}

/// In this order, so that any twelve trials in a row have every jump of every clock.
const WHOSE: [Whose; 3] = [Whose::Both, Whose::Daemons, Whose::Database];
const JUMPS: [TimeDelta; 4] = [
    TimeDelta::days(1),
    TimeDelta::hours(-1),
    TimeDelta::days(-1),
    TimeDelta::hours(1),
];

fn dags(witness: &Witness) -> Vec<(String, String)> {
    let script = witness.script("sleep 3");
    let mut text = "stages:\n".to_owned();
    for number in 1..=STAGES {
        text.push_str(&format!(
            "  s{number}: {{image: \"{IMAGE}\", checkout: false, timeout: {TIMEOUT}, run: '{script}'}}\n"
        ));
    }
    // What it starts has nothing to do, however many ticks have to be made up for.
    let tick = format!(
        "triggers: {{schedule: [{{cron: \"*/{} * * * *\", missed: all}}]}}
params: {{go: {{type: boolean, default: false}}}}
stages: {{say: {{image: \"{IMAGE}\", if: params.go, run: echo hi}}}}\n",
        EVERY.num_minutes()
    );
    vec![
        ("dags/dag.yaml".to_owned(), text),
        ("dags/tick.yaml".to_owned(), tick),
    ]
}

/// A fleet whose clocks jump.
struct Clockwork {
    fleet: Fleet,
    clocks: Clocks,
    /// The first tick there can be.
    first: DateTime<Utc>,
    /// The latest that the database's clock has shown.
    latest: DateTime<Utc>,
}

impl Clockwork {
    fn new(seed: u64, more: &str) -> Self {
        let options = FleetOptions {
            daemons: DAEMONS,
            parallelism: 3,
            more: more.to_owned(),
            ..FleetOptions::new(seed)
        };
        let mut fleet = Fleet::start(&options, dags);
        let clocks = Clocks::of(&mut fleet);
        let first = next_tick(&fleet);
        let latest = clocks.database(&fleet.cluster);
        Self {
            fleet,
            clocks,
            first,
            latest,
        }
    }

    /// Notes the latest time shown, to distinguish ticks that fired from ticks that could not.
    fn note(&mut self) {
        self.latest = self.latest.max(self.clocks.database(&self.fleet.cluster));
    }

    fn jump(&mut self, whose: Whose, by: TimeDelta) {
        self.note();
        if whose != Whose::Daemons {
            self.clocks.jump_database(&self.fleet.cluster, by);
        }
        if whose != Whose::Database {
            self.clocks.jump_daemons(by);
        }
        self.note();
    }

    /// The database's clock is set to shortly before the next tick.
    fn near_a_tick(&mut self, dice: &mut Dice) {
        let before = dice.between(Duration::ZERO, Duration::from_secs(4));
        let to = next_tick(&self.fleet) - before;
        self.clocks.set_database(&self.fleet.cluster, to);
        self.note();
    }

    /// Starts a run and waits until as many of its stages run as can.
    fn under_way(&self) -> i64 {
        let before = self.fleet.witness.started();
        let run = self.fleet.trigger();
        until("stages under way", BOUND, || {
            let started = self.fleet.witness.started() - before;
            if started > STAGES / 2 {
                Ok(())
            } else {
                Err(started.to_string())
            }
        });
        run
    }

    /// Waits until leases hold as long as they should, and no longer, and no tick is due.
    fn well(&self) {
        let alive = self.fleet.daemons.iter().filter(|daemon| daemon.is_up());
        let expected = format!("{} 3 0", alive.count());
        until("leases that hold and no tick that is due", BOUND, || {
            let seen = self.fleet.cluster.sql(
                "select (select count(*) from daemon where stopped_at is null
                        and lease_until between clock_timestamp() and clock_timestamp() + interval '15 s')
                    || ' ' || (select count(*) from leader
                        where lease_until between clock_timestamp() and clock_timestamp() + interval '15 s')
                    || ' ' || (select count(*) from schedule where next_tick <= clock_timestamp())",
            );
            if seen == expected {
                Ok(())
            } else {
                Err(format!("{seen}, not {expected}"))
            }
        });
    }

    /// The violations among the ticks that fired: all from the first on have to be there, once each.
    fn misfired(&mut self) -> Vec<String> {
        self.note();
        let rows = self.fleet.cluster.sql(
            "select c.detail -> 'schedule' ->> 'tick' from cause c join run r on r.cause = c.id
             where c.kind = 'schedule'",
        );
        let fired: Vec<DateTime<Utc>> = rows.lines().map(|tick| tick.parse().unwrap()).collect();
        let distinct: BTreeSet<DateTime<Utc>> = fired.iter().copied().collect();
        let next = next_tick(&self.fleet);
        let expected: BTreeSet<DateTime<Utc>> =
            std::iter::successors(Some(self.first), |tick| Some(*tick + EVERY))
                .take_while(|tick| *tick < next)
                .collect();
        let mut violations = Vec::new();
        if distinct.len() < fired.len() {
            violations.push(format!("ticks fired twice: {fired:?}"));
        }
        let left_out: Vec<_> = expected.difference(&distinct).collect();
        if !left_out.is_empty() {
            violations.push(format!("ticks that did not fire: {left_out:?}"));
        }
        if let Some(early) = distinct.iter().find(|tick| **tick > self.latest) {
            violations.push(format!(
                "{early} fired, and it was never later than {}",
                self.latest
            ));
        }
        violations
    }

    /// How often an attempt was adopted.
    fn adopted(&self) -> String {
        self.fleet
            .cluster
            .sql("select count(*) from run_event where kind = 'attempt_adopted'")
    }

    /// How often a daemon found that it had not renewed its lease in time.
    fn lapsed(&self) -> usize {
        let logs = self.fleet.daemons.iter().map(|daemon| daemon.log());
        logs.map(|log| log.matches("the lease had lapsed").count())
            .sum()
    }

    fn testimony(&self) -> Vec<(String, String)> {
        self.fleet.testimony()
    }
}

fn next_tick(fleet: &Fleet) -> DateTime<Utc> {
    let tick = fleet.cluster.sql(
        "select to_char(next_tick at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SSZ') from schedule",
    );
    tick.parse().unwrap()
}

#[test]
fn nothing_runs_twice_and_no_tick_is_lost() {
    let trials = Trials::new(
        "F17 clock jumps by 1 h, 1 d, there and back",
        "0 run twice, 0 ticks twice or left out, well in 15 s",
        2,
    )
    .long(240);
    let summary = trials.run(
        |trial| Clockwork::new(trial.seed, ""),
        |trial, clockwork| {
            let mut dice = trial.dice();
            let place = trial.number as usize - 1;
            let (whose, by) = (WHOSE[place % WHOSE.len()], JUMPS[place % JUMPS.len()]);
            let adopted = clockwork.adopted();
            if whose != Whose::Daemons {
                clockwork.near_a_tick(&mut dice);
            }
            let run = clockwork.under_way();
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_millis(1_500)));
            clockwork.jump(whose, by);
            if dice.chance(0.5) {
                std::thread::sleep(dice.between(Duration::ZERO, Duration::from_secs(2)));
                clockwork.jump(whose, -by);
            }
            let probe = clockwork.fleet.trigger();
            let ((), recovery) = timed(|| clockwork.well());
            let mut verdict = judge(&clockwork.fleet, run, Some(recovery));
            verdict
                .violations
                .extend(judge(&clockwork.fleet, probe, None).violations);
            verdict.violations.extend(clockwork.misfired());
            let now_adopted = clockwork.adopted();
            if now_adopted != adopted {
                verdict.violations.push(format!(
                    "{adopted} attempts had been adopted, now {now_adopted}"
                ));
            }
            if clockwork.lapsed() > 0 {
                verdict.violations.push("a lease was lost".to_owned());
            }
            if recovery > within(WELL) {
                verdict.violations.push(format!("well after {recovery:?}"));
            }
            report(&format!(
                "F17: {whose:?} by {by}: well after {recovery:?}, {adopted} to {now_adopted} adopted"
            ));
            verdict
        },
        Clockwork::testimony,
    );
    summary.assert_clean(&trials);
}

#[test]
fn attempts_of_a_dead_daemon_do_not_stay_its_own_for_a_day() {
    let trials = Trials::new(
        "F17 clock back by 1 d over a dead daemon",
        "0 run twice, adopted in a lease and 10 s",
        1,
    )
    .long(20);
    let summary = trials.run(
        |trial| {
            let lease = format!("lease = \"{}s\"\n", LEASE.as_secs());
            Clockwork::new(trial.seed, &lease)
        },
        |trial, clockwork| {
            let run = clockwork.under_way();
            std::thread::sleep(trial.dice().between(Duration::ZERO, Duration::from_secs(1)));
            // It leads, or not; it has attempts in any case.
            let dead = trial.number as usize % DAEMONS;
            let pid = clockwork.fleet.daemons[dead].get().pid();
            clockwork.fleet.daemons[dead].kill();
            clockwork.jump(Whose::Database, TimeDelta::days(-1));
            let begun = Instant::now();
            until("all in the other's hands", BOUND, || {
                let left = clockwork.fleet.cluster.sql(&format!(
                    "select (select count(*) from attempt a join daemon d on d.id = a.owner
                            where a.state in ('claimed', 'running') and d.pid = {pid})
                        + (select count(*) from leader l join daemon d on d.id = l.daemon where d.pid = {pid})"
                ));
                if left == "0" { Ok(()) } else { Err(left) }
            });
            let recovery = begun.elapsed();
            clockwork.fleet.daemons[dead].start();
            let mut verdict = judge(&clockwork.fleet, run, Some(recovery));
            verdict.violations.extend(clockwork.misfired());
            if recovery > within(LEASE + Duration::from_secs(10)) {
                verdict
                    .violations
                    .push(format!("adopted after {recovery:?}"));
            }
            verdict
        },
        Clockwork::testimony,
    );
    summary.assert_clean(&trials);
}
