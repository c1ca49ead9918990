//! F19: no daemon is there for a minute, an hour, a day, ten days, a month. The next one makes up for the
//! ticks that were missed by each schedule's rule, for exactly those, however many there were, and at
//! once; after it every schedule ticks on.
//!
//! An oracle that walks the minutes says which ticks it has to make up for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Timelike as _, Utc};
use trainyard_rig::clock::Clocks;
use trainyard_rig::dice::Dice;
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until;

use crate::{BOUND, report};

const DOWN: [TimeDelta; 5] = [
    TimeDelta::minutes(1),
    TimeDelta::hours(1),
    TimeDelta::days(1),
    TimeDelta::days(10),
    TimeDelta::days(30),
];

const RULES: [&str; 3] = ["none", "last", "all"];

/// A schedule's name, its expression, and whether it ticks at a minute.
type Schedule = (&'static str, &'static str, fn(DateTime<Utc>) -> bool);

const SCHEDULES: [Schedule; 3] = [
    ("minutely", "* * * * *", |_| true),
    ("hourly", "17 * * * *", |minute| minute.minute() == 17),
    ("daily", "30 2 * * *", |minute| {
        (minute.hour(), minute.minute()) == (2, 30)
    }),
];

/// A tick as old as this is late, and no older one is: those are missed.
const LATE: TimeDelta = TimeDelta::seconds(60);

/// How many missed ticks `all` makes up for: the newest.
const ALL: usize = 100;

/// Making up has begun so soon after the daemon answers.
const AT_ONCE: TimeDelta = TimeDelta::seconds(5);

/// Where in a minute the daemon starts again: far from the next tick, and from the last one too.
const SECONDS: TimeDelta = TimeDelta::seconds(12);

fn name(rule: &str, schedule: &str) -> String {
    format!("{rule}-{schedule}")
}

fn dags() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for rule in RULES {
        for (schedule, cron, _) in SCHEDULES {
            // Nothing has to run for a run to be there.
            let text = format!(
                "triggers: {{schedule: [{{cron: \"{cron}\", missed: {rule}}}]}}
params: {{go: {{type: boolean, default: false}}}}
stages: {{say: {{image: \"{IMAGE}\", if: params.go, run: echo hi}}}}\n"
            );
            files.push((format!("dags/{}.yaml", name(rule, schedule)), text));
        }
    }
    files
}

fn minute_of(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.duration_trunc(TimeDelta::minutes(1)).unwrap()
}

fn minutes(from: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    std::iter::successors(Some(from), |minute| Some(*minute + TimeDelta::minutes(1)))
}

/// The ticks that have to fire where the first that could not was `from`, and it is `now`.
fn expected(
    rule: &str,
    ticks: fn(DateTime<Utc>) -> bool,
    from: DateTime<Utc>,
    now: DateTime<Utc>,
) -> BTreeSet<DateTime<Utc>> {
    let due = minutes(from)
        .take_while(|minute| *minute <= now)
        .filter(|minute| ticks(*minute));
    let (mut late, missed): (BTreeSet<_>, BTreeSet<_>) = due.partition(|tick| now - *tick <= LATE);
    let made_up = match rule {
        "all" => ALL,
        "last" if late.is_empty() => 1,
        _ => 0,
    };
    late.extend(missed.into_iter().rev().take(made_up));
    late
}

/// A fleet whose daemon is away for long.
struct Absence {
    fleet: Fleet,
    clocks: Clocks,
}

impl Absence {
    fn new(seed: u64) -> Self {
        let mut fleet = Fleet::start(&FleetOptions::new(seed), |_| dags());
        let clocks = Clocks::of(&mut fleet);
        Self { fleet, clocks }
    }

    fn rows(&self, sql: &str) -> Vec<(String, DateTime<Utc>)> {
        let rows = self.fleet.cluster.sql(sql);
        rows.lines()
            .filter_map(|row| row.split_once('|'))
            .map(|(dag, moment)| (dag.to_owned(), moment.parse().unwrap()))
            .collect()
    }

    fn next_ticks(&self) -> BTreeMap<String, DateTime<Utc>> {
        let rows = self.rows(
            "select d.name, to_char(s.next_tick at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SSZ')
             from schedule s join dag d on d.id = s.dag",
        );
        rows.into_iter().collect()
    }

    /// Ticks that have runs, as often as they have.
    fn fired(&self) -> Vec<(String, DateTime<Utc>)> {
        self.rows(
            "select d.name, c.detail -> 'schedule' ->> 'tick'
             from cause c join run r on r.cause = c.id join dag d on d.id = c.dag where c.kind = 'schedule'",
        )
    }

    fn none_is_due(&self) {
        until("no tick that is due", BOUND, || {
            let due = self
                .fleet
                .cluster
                .sql("select count(*) from schedule where next_tick <= clock_timestamp()");
            if due == "0" { Ok(()) } else { Err(due) }
        });
    }

    /// Lets the daemon be down, by the database's clock, and start again.
    fn attempt(&mut self, down: TimeDelta, dice: &mut Dice) -> Verdict {
        self.none_is_due();
        let first = self.fleet.first_mut();
        if dice.chance(0.5) {
            first.kill();
        } else {
            let _ = first.stop();
        }
        let from = self.next_ticks();
        let left = self.clocks.database(&self.fleet.cluster);
        let back = minute_of(left + down) + SECONDS;
        self.clocks.set_database(&self.fleet.cluster, back);
        self.fleet.first_mut().start();
        let answered = self.clocks.database(&self.fleet.cluster);
        self.none_is_due();
        let now = self.clocks.database(&self.fleet.cluster);
        let mut violations = Vec::new();
        if minute_of(now) != minute_of(back) {
            violations.push(format!(
                "making up took from {back} to {now}, into the next minute"
            ));
        }
        let fired = self.fired();
        let next = self.next_ticks();
        for rule in RULES {
            for (schedule, _, ticks) in SCHEDULES {
                let name = name(rule, schedule);
                let began = from[&name];
                let mut seen: Vec<DateTime<Utc>> = fired
                    .iter()
                    .filter(|(dag, tick)| *dag == name && *tick >= began)
                    .map(|(_, tick)| *tick)
                    .collect();
                seen.sort_unstable();
                let right: Vec<DateTime<Utc>> =
                    expected(rule, ticks, began, back).into_iter().collect();
                if seen != right {
                    violations.push(format!(
                        "{name} of {began} to {now}: {} ticks fired, not {}: {seen:?}, not {right:?}",
                        seen.len(),
                        right.len()
                    ));
                }
                let after = minutes(minute_of(now) + TimeDelta::minutes(1))
                    .find(|minute| ticks(*minute))
                    .unwrap();
                if next[&name] != after {
                    violations.push(format!("{name} ticks on at {}, not {after}", next[&name]));
                }
            }
        }
        let recovery = self.began_after(back, answered, &mut violations);
        report(&format!(
            "F19: down for {down}: {} runs in all, the first {recovery:?} after the start",
            fired.len()
        ));
        violations.extend(self.ticks_on(minute_of(now) + TimeDelta::minutes(1)));
        Verdict {
            violations,
            recovery,
        }
    }

    /// How long after the start the first run existed; the duration of the start itself is not a
    /// promise of the schedules.
    fn began_after(
        &self,
        back: DateTime<Utc>,
        answered: DateTime<Utc>,
        violations: &mut Vec<String>,
    ) -> Option<Duration> {
        let first = self.fleet.cluster.sql(&format!(
            "select (extract(epoch from min(created_at)) * 1000)::bigint from run where created_at >= '{}'",
            back.to_rfc3339()
        ));
        let first = DateTime::from_timestamp_millis(first.parse().ok()?)?;
        let late = first - answered;
        if late > AT_ONCE {
            violations.push(format!("making up began {late} after it answered"));
        }
        (first - back).to_std().ok()
    }

    /// The violations of the next tick of schedules that tick every minute.
    fn ticks_on(&self, minute: DateTime<Utc>) -> Vec<String> {
        let before = minute - TimeDelta::milliseconds(500);
        self.clocks.set_database(&self.fleet.cluster, before);
        until("the next minute's end of ticks", BOUND, || {
            let now = self.clocks.database(&self.fleet.cluster);
            if now > minute {
                Ok(())
            } else {
                Err(now.to_string())
            }
        });
        self.none_is_due();
        let fired = self.fired();
        let ticks_on = |rule: &&str| {
            let name = name(rule, "minutely");
            let times = fired
                .iter()
                .filter(|(dag, tick)| *dag == name && *tick == minute);
            times.count() != 1
        };
        RULES
            .iter()
            .copied()
            .filter(ticks_on)
            .map(|rule| format!("{rule}-minutely did not tick once at {minute}"))
            .collect()
    }
}

#[test]
fn exactly_the_ticks_of_the_rule_are_made_up_for() {
    let trials = Trials::new(
        "F19 down for 1 min, 1 h, 1 d, 10 d, 30 d",
        "exactly the ticks of none, last, all; begun in 5 s",
        3,
    )
    .long(100);
    let summary = trials.run(
        |trial| Absence::new(trial.seed),
        |trial, absence| {
            let down = DOWN[(trial.number as usize - 1) % DOWN.len()];
            let mut verdict = absence.attempt(down, &mut trial.dice());
            verdict.violations.extend(absence.fleet.violations());
            verdict
        },
        |absence| absence.fleet.testimony(),
    );
    summary.assert_clean(&trials);
}
