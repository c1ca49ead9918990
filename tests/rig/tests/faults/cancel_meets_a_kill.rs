//! F28: a run is cancelled in each state that an attempt can be in, and the daemon is killed over it. It
//! ends cancelled, once, and its container is gone.

use std::time::Duration;

use trainyard_rig::fleet::{Fleet, FleetOptions};
use trainyard_rig::programme::within;
use trainyard_rig::trials::{Trials, Verdict};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::wait::until;

use crate::{BOUND, timed};

/// The time that a program has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long after that all may be over.
const OVER: Duration = Duration::from_secs(10);

/// When the run is cancelled.
#[derive(Debug, Clone, Copy)]
enum State {
    Queued,
    Starting,
    Building,
    Running,
    Stopping,
    Collecting,
}

const STATES: [State; 6] = [
    State::Queued,
    State::Starting,
    State::Building,
    State::Running,
    State::Stopping,
    State::Collecting,
];

impl State {
    /// The DAG whose runs come into this state.
    const fn dag(self) -> &'static str {
        match self {
            Self::Queued | Self::Starting | Self::Running => "dag",
            Self::Building => "builds",
            Self::Stopping => "stubborn",
            Self::Collecting => "large",
        }
    }
}

fn fleet(seed: u64) -> Fleet {
    let options = FleetOptions {
        parallelism: 1,
        more: format!("[stage]\ngrace = \"{}s\"\n", GRACE.as_secs()),
        ..FleetOptions::new(seed)
    };
    Fleet::start(&options, |witness| {
        let stage = |more: &str, script: &str| {
            format!(
                "stages:\n  s: {{image: \"{IMAGE}\", checkout: false{more}, run: '{script}'}}\n"
            )
        };
        let long = witness.script("sleep 60");
        let stubborn = witness.script("trap \"\" TERM; sleep 60; sleep 60");
        let large = witness.script("head -c 150000000 /dev/zero > $OUTPUTS/large");
        vec![
            ("dags/dag.yaml".to_owned(), stage("", &long)),
            ("dags/stubborn.yaml".to_owned(), stage("", &stubborn)),
            (
                "dags/large.yaml".to_owned(),
                stage(", outputs: {large: large}", &large),
            ),
            (
                "dags/builds.yaml".to_owned(),
                format!("stages:\n  s: {{build: {{context: image}}, run: '{long}'}}\n"),
            ),
            (
                "image/Dockerfile".to_owned(),
                format!("FROM {IMAGE}\nRUN sleep 5\n"),
            ),
        ]
    })
}

/// Starts a run and brings it into `state`.
fn brought_into(fleet: &Fleet, state: State, dice: &mut trainyard_rig::dice::Dice) -> i64 {
    let trigger = |dag: &str| {
        fleet.first().get().json(&["dag", "trigger", dag])["id"]
            .as_i64()
            .unwrap()
    };
    let started = fleet.witness.started();
    let ended = fleet.witness.ended();
    if let State::Queued = state {
        // It holds the only slot.
        let holder = trigger("dag");
        let run = trigger("dag");
        // Cancelled with the other, by the caller's bound on what is left.
        let answer = fleet
            .first()
            .get()
            .cli(&["run", "cancel", &holder.to_string()]);
        let _ = answer.good();
        return run;
    }
    let run = trigger(state.dag());
    let seen = |what: &str, look: &dyn Fn() -> bool| {
        until(what, BOUND, || {
            if look() {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        });
    };
    match state {
        State::Queued => {}
        State::Starting => {
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_millis(400)));
        }
        State::Building => {
            seen("a build", &|| {
                !fleet
                    .engine
                    .docker(&["ps", "-q", "--filter", "status=running"])
                    .is_empty()
            });
        }
        State::Running => seen("a program", &|| fleet.witness.started() > started),
        State::Stopping => {
            seen("a program", &|| fleet.witness.started() > started);
            let id = run.to_string();
            let _ = fleet.first().get().cli(&["run", "cancel", &id]).good();
            std::thread::sleep(dice.between(Duration::ZERO, GRACE));
        }
        State::Collecting => {
            seen("an end", &|| fleet.witness.ended() > ended);
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_millis(500)));
        }
    }
    run
}

#[test]
fn it_ends_cancelled_once_and_leaves_no_container() {
    let trials = Trials::new(
        "F28 cancelled in each state, daemon killed",
        "terminal once, container gone 10 s after the grace",
        6,
    )
    .long(60);
    let summary = trials.run(
        |trial| fleet(trial.seed),
        |trial, fleet| {
            let mut dice = trial.dice();
            let state = STATES[(trial.number as usize - 1) % STATES.len()];
            let run = brought_into(fleet, state, &mut dice);
            let id = run.to_string();
            // A run that has ended meanwhile cannot be cancelled any more; the answer says so.
            let _ = fleet.first().get().cli(&["run", "cancel", &id]);
            std::thread::sleep(dice.between(Duration::ZERO, Duration::from_millis(300)));
            fleet.first_mut().kill();
            fleet.first_mut().start();
            let (ended, recovery) = timed(|| {
                let ended = fleet.finished(run, BOUND);
                let left = fleet.orphans(BOUND);
                assert!(left.is_empty(), "{left:?}");
                ended
            });
            let mut violations = fleet.violations();
            let word = ended["state"].as_str().unwrap_or_default();
            let raced = matches!(state, State::Collecting) && word == "succeeded";
            if word != "cancelled" && !raced {
                violations.push(format!("cancelled while {state:?}, and it is {ended}"));
            }
            let again = fleet.cluster.sql(&format!(
                "select attempt from run_event where run = {run} and kind = 'attempt_finished'
                 group by stage, attempt having count(*) > 1"
            ));
            if !again.is_empty() {
                violations.push(format!("attempt {again} ended more than once"));
            }
            if recovery > within(GRACE + OVER) {
                violations.push(format!(
                    "cancelled while {state:?}, over after {recovery:?}"
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
