//! The faults of the programme that every change is held against: one file a fault, a few trials of
//! each. `RIG_TRIALS` makes a night of it.

mod commit_answers_are_lost;
mod daemon_is_killed;
mod docker_answers_are_lost;
mod dockerd_is_killed;
mod postgres_restarts;
mod power_fails;
mod stages_are_killed;

use std::time::{Duration, Instant};

use trainyard_rig::fleet::Fleet;
use trainyard_rig::trials::Verdict;

/// How long a run of a few stages may take on a busy machine, faults included.
const BOUND: Duration = Duration::from_secs(180);

/// The verdict on a run that should have succeeded whatever was done to it.
fn judge(fleet: &Fleet, run: i64, recovery: Option<Duration>) -> Verdict {
    let ended = fleet.finished(run, BOUND);
    let mut violations = fleet.violations();
    if ended["state"] != "succeeded" {
        violations.push(format!("the run did not succeed: {ended}"));
    }
    let retried =
        |attempt: &String| attempt.starts_with(&format!("{run}.")) && !attempt.ends_with(".1");
    violations.extend(
        fleet
            .attempts()
            .into_keys()
            .filter(retried)
            .map(|attempt| format!("an attempt was lost: there is {attempt}")),
    );
    Verdict {
        violations,
        recovery,
    }
}

/// How long something took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}
