//! The histories can fail: each mistake that is planted in a simulated part breaks an invariant.

use trainyard_simulation::{Invariant, Mutation, Settings, run};

/// In how many histories a mistake may stay hidden: the best hidden one does in some thousands.
const FOUND_WITHIN: u64 = 30_000;

/// Looks from the seed `from` on: shortly before the one that found it last, for the well hidden ones.
fn finds(settings: Settings, expected: Invariant, from: u64) {
    let breaks = |seed| {
        let history = run(seed, settings);
        let mut violations = history.violations.iter();
        violations.any(|violation| violation.invariant == expected)
    };
    assert!(
        (from..from + FOUND_WITHIN).any(breaks),
        "{FOUND_WITHIN} histories with {settings:?} never broke {expected:?}"
    );
}

fn finds_mutation(mutation: Mutation, expected: Invariant, from: u64) {
    let settings = Settings {
        mutation: Some(mutation),
        ..Settings::default()
    };
    finds(settings, expected, from);
}

#[test]
fn without_the_latch_a_paused_owner_starts_a_program_again() {
    let settings = Settings {
        latch: false,
        ..Settings::default()
    };
    finds(settings, Invariant::StartedOnce, 3_950);
}

#[test]
fn without_the_marker_a_power_cut_looks_like_success() {
    let settings = Settings {
        latch: false,
        ..Settings::default()
    };
    finds(settings, Invariant::ProvedSuccess, 200);
}

#[test]
fn a_store_that_ignores_fences_is_found() {
    finds_mutation(
        Mutation::StoreIgnoresFences,
        Invariant::StoppedIsNoSuccess,
        1,
    );
}

#[test]
fn a_client_that_purges_and_creates_again_is_found() {
    finds_mutation(Mutation::PurgesAndCreatesAgain, Invariant::StartedOnce, 200);
}

#[test]
fn a_client_that_trusts_the_exit_code_alone_is_found() {
    finds_mutation(Mutation::TrustsExitCodeAlone, Invariant::ProvedSuccess, 150);
}

#[test]
fn a_store_that_takes_absence_for_death_is_found() {
    finds_mutation(Mutation::AbsentMeansLost, Invariant::EndedBeforeRecorded, 1);
}

#[test]
fn a_store_that_calls_every_attempt_unfinished_is_found() {
    finds_mutation(Mutation::NeverSweeps, Invariant::NothingLeft, 1);
}

#[test]
fn a_store_that_forgets_pools_is_found() {
    finds_mutation(Mutation::ForgetsPools, Invariant::Capacity, 1);
}
