//! The faults of the programme that every change is held against: one file a fault, a few trials of
//! each. The long programme makes a night of it (`trainyard_rig::programme`).

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

mod attempts_are_abandoned;
mod cancel_meets_a_kill;
mod clocks_jump;
mod commit_answers_are_lost;
mod connections_are_exhausted;
mod connections_fall_silent;
mod daemon_is_cut_off_from_postgres;
mod daemon_is_killed;
mod daemons_are_upgraded;
mod disks_are_full;
mod docker_answers_are_lost;
mod docker_is_slow;
mod dockerd_is_killed;
mod engine_does_not_answer;
mod fail_points;
mod files_are_poisoned;
mod formats_are_mixed;
mod listening_is_black_holed;
mod logs_are_vast;
mod many_containers_exit_at_once;
mod owner_is_paused;
mod postgres_goes_back_in_time;
mod postgres_is_away_for_long;
mod postgres_restarts;
mod power_fails;
mod queue_is_long_and_history_too;
mod registry_fails;
mod rows_are_corrupted;
mod schedules_come_due_together;
mod soak;
mod stages_are_killed;
mod ticks_are_missed;
mod webhooks_come_in_crowds;
mod webhooks_do_not_come;
mod work_is_held_up;
mod work_panics;

use std::time::{Duration, Instant};

use trainyard_rig::fleet::Fleet;
use trainyard_rig::trials::Verdict;

/// How long to wait for a run of a few stages, faults included: the machine may be busy with other work.
const BOUND: Duration = Duration::from_secs(600);

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

/// Prints measurements besides recovery.
#[expect(
    clippy::print_stdout,
    reason = "figures are what the programme is run for"
)]
fn report(figure: &str) {
    println!("{figure}");
}

/// How long something took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}
