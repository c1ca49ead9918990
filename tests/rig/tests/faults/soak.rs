//! F29: a run a second for a long time, while daemons are killed, Postgres and dockerd are restarted and
//! answers of Docker are lost. Every run succeeds, and a daemon that was spared needs no more memory and
//! no more files at the end than it did at the beginning. The time in the table is the slowest run's.
//!
//! `RIG_SOAK_SECONDS` is the length of a trial, `RIG_SOAK_FAULT_SECONDS` the time between two faults. The
//! long programme takes an hour at a time: an interruption costs the hour that it is in.

use std::time::{Duration, Instant};

use trainyard_rig::cluster::Mode;
use trainyard_rig::dice::Dice;
use trainyard_rig::engine::{EngineOptions, Killed};
use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::argument;
use trainyard_rig::proxy::{Action, Matcher, Rule};
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::wait::until;

use crate::{BOUND, report};

/// The pace of runs.
const EVERY: Duration = Duration::from_secs(1);

/// What a daemon's memory may grow by from the first quarter to the end: a twentieth, and at least this
/// much, which is what allocators keep for themselves.
const GROWTH: u64 = 8 << 20;

/// Connections come and go.
const MORE_FILES: usize = 16;

/// The faults of a soak.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Daemon,
    Postgres,
    Engine,
    Answers,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Daemon, Self::Postgres, Self::Engine, Self::Answers];

    /// Strikes. The first daemon is spared: it is the one that is measured.
    fn strike(self, fleet: &mut Fleet, dice: &mut Dice) {
        match self {
            Self::Daemon => {
                let down = dice.between(Duration::ZERO, Duration::from_secs(1));
                fleet.daemons[1].restart_after(down);
            }
            Self::Postgres => fleet.cluster.restart(if dice.chance(0.5) {
                Mode::Fast
            } else {
                Mode::Immediate
            }),
            Self::Engine => {
                fleet.engine.kill(Killed::Dockerd);
                fleet.engine.up();
            }
            Self::Answers => {
                for daemon in &fleet.daemons {
                    daemon.docker.clear();
                    for path in ["/containers/create", "/containers/*/start"] {
                        let when = Matcher::http("POST", path);
                        daemon
                            .docker
                            .add(Rule::times("lost", when, Action::DropAnswer, 2));
                    }
                }
            }
        }
    }
}

/// The quantities that must not grow.
#[derive(Debug, Clone, Copy)]
struct Size {
    memory: u64,
    files: usize,
}

impl Size {
    fn of(fleet: &Fleet) -> Self {
        Self {
            memory: fleet.first().memory(),
            files: fleet.first().open_files(),
        }
    }

    fn exceeds(self, before: Self) -> Option<String> {
        let allowed = before.memory + (before.memory / 20).max(GROWTH);
        (self.memory > allowed || self.files > before.files + MORE_FILES)
            .then(|| format!("it grew from {before:?} to {self:?}"))
    }
}

/// Starts runs at their pace, for as long as it takes, with a fault now and then. Returns how large the
/// spared daemon was after a quarter of the time, and how many triggers a daemon confirmed.
fn soak(fleet: &mut Fleet, dice: &mut Dice, length: Duration, between: Duration) -> (Size, usize) {
    let begun = Instant::now();
    let mut early = None;
    let (mut next, mut strike) = (Duration::ZERO, between / 2);
    let mut confirmed = 0;
    while begun.elapsed() < length {
        if begun.elapsed() >= strike {
            let fault = Fault::ALL[usize::try_from(dice.below(4)).unwrap()];
            fault.strike(fleet, dice);
            strike += between;
        }
        if early.is_none() && begun.elapsed() >= length / 4 {
            early = Some(Size::of(fleet));
        }
        // What a daemon without a database does not confirm may be there or not; if it is, it ends.
        let answer = fleet.first().get().cli(&["dag", "trigger", "dag"]);
        confirmed += usize::from(answer.code == Some(0));
        next += EVERY;
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    (early.unwrap_or_else(|| Size::of(fleet)), confirmed)
}

#[test]
fn every_run_succeeds_and_nothing_grows() {
    let seconds = argument("RIG_SOAK_SECONDS", 20, 3_600);
    let between = argument("RIG_SOAK_FAULT_SECONDS", 6, 60);
    let trials = Trials::new(
        &format!("F29 soak of {seconds} s, a run a second, a fault every {between} s"),
        "all runs succeed, no growth",
        1,
    )
    .long(24);
    let summary = trials.run(
        |trial| {
            let options = FleetOptions {
                daemons: 2,
                parallelism: 4,
                engine: EngineOptions {
                    live_restore: true,
                    ..EngineOptions::default()
                },
                more: "lease = \"10s\"\n".to_owned(),
                ..FleetOptions::new(trial.seed)
            };
            Fleet::with_wide_dag(&options, 1, |_| "true".to_owned())
        },
        |trial, fleet| {
            let count = |fleet: &Fleet, condition: &str| {
                let rows = fleet
                    .cluster
                    .sql(&format!("select count(*) from run where {condition}"));
                rows.parse::<usize>().unwrap()
            };
            let before = count(fleet, "true");
            let last = fleet.cluster.sql("select coalesce(max(id), 0) from run");
            let (early, confirmed) = soak(
                fleet,
                &mut trial.dice(),
                Duration::from_secs(seconds),
                Duration::from_secs(between),
            );
            until("the end of all runs", BOUND, || {
                match count(fleet, "phase <> 'finished'") {
                    0 => Ok(()),
                    left => Err(format!("{left} have not ended")),
                }
            });
            let late = Size::of(fleet);
            let slowest = fleet.cluster.sql(&format!(
                "select coalesce(extract(epoch from max(finished_at - created_at)), 0)::float8 from run where id > {last}"
            ));
            let runs = count(fleet, "true") - before;
            report(&format!(
                "F29: {runs} runs, {confirmed} triggers confirmed; the spared daemon: {early:?}, then {late:?}"
            ));
            let mut violations = fleet.violations();
            violations.extend(late.exceeds(early));
            let failed = count(fleet, "outcome <> 'succeeded'");
            if failed > 0 {
                violations.push(format!("{failed} runs did not succeed"));
            }
            if runs < confirmed {
                violations.push(format!("{confirmed} triggers confirmed, {runs} runs"));
            }
            Verdict {
                violations,
                recovery: Some(Duration::from_secs_f64(slowest.parse().unwrap())),
            }
        },
        Fleet::testimony,
    );
    summary.assert_clean(&trials);
}
