//! The histories can fail: each mistake that is planted in a simulated part breaks an invariant.

use std::time::Duration;

use trainyard_simulation::{Invariant, Mutation, Settings};

use crate::kit;

/// How long a mistake may stay hidden. Far more than it takes, on a slow machine too.
const FOUND_WITHIN: Duration = Duration::from_secs(300);

fn finds(settings: Settings, expected: Invariant) {
    let mut found = false;
    let count = kit::histories(1, settings, FOUND_WITHIN, |_, history| {
        found = history
            .violations
            .iter()
            .any(|violation| violation.invariant == expected);
        found
    });
    assert!(
        found,
        "{count} histories with {settings:?} never broke {expected:?}"
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
