//! The histories can fail: each mistake that is planted in a simulated part breaks an invariant.

use trainyard_simulation::{Invariant, Mutation, Settings, run};

/// In how many histories a mistake may stay hidden: the best hidden one does in some thousands.
const FOUND_WITHIN: u64 = 30_000;

fn finds(settings: Settings, expected: Invariant) {
    let breaks = |seed| {
        let history = run(seed, settings);
        let mut violations = history.violations.iter();
        violations.any(|violation| violation.invariant == expected)
    };
    assert!(
        (1..=FOUND_WITHIN).any(breaks),
        "{FOUND_WITHIN} histories with {settings:?} never broke {expected:?}"
    );
}

fn finds_mutation(mutation: Mutation, expected: Invariant) {
    let settings = Settings {
        mutation: Some(mutation),
        ..Settings::default()
    };
    finds(settings, expected);
}

#[test]
fn without_the_latch_a_paused_owner_starts_a_program_again() {
    let settings = Settings {
        latch: false,
        ..Settings::default()
    };
    finds(settings, Invariant::StartedOnce);
}

#[test]
fn without_the_marker_a_power_cut_looks_like_success() {
    let settings = Settings {
        latch: false,
        ..Settings::default()
    };
    finds(settings, Invariant::ProvedSuccess);
}

#[test]
fn a_store_that_ignores_fences_is_found() {
    finds_mutation(Mutation::StoreIgnoresFences, Invariant::WholeLog);
}

#[test]
fn a_client_that_purges_and_creates_again_is_found() {
    finds_mutation(Mutation::PurgesAndCreatesAgain, Invariant::StartedOnce);
}

#[test]
fn a_client_that_trusts_the_exit_code_alone_is_found() {
    finds_mutation(Mutation::TrustsExitCodeAlone, Invariant::ProvedSuccess);
}

#[test]
fn a_keeper_that_takes_absence_for_death_is_found() {
    finds_mutation(Mutation::AbsentMeansLost, Invariant::EndedBeforeRecorded);
}

#[test]
fn a_keeper_that_never_sweeps_is_found() {
    finds_mutation(Mutation::NeverSweeps, Invariant::NothingLeft);
}

#[test]
fn a_store_that_forgets_pools_is_found() {
    finds_mutation(Mutation::ForgetsPools, Invariant::Capacity);
}
