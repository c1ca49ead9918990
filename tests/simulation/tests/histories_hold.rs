//! New histories, from where the environment says.

use trainyard_simulation::{Settings, run};

use crate::kit;

#[test]
fn every_invariant_holds_in_every_history() {
    let settings = Settings::default();
    let first = kit::first_seed();
    for seed in first..first + kit::count() {
        let history = run(seed, settings);
        assert!(
            history.violations.is_empty(),
            "{}",
            kit::report(seed, &history, settings)
        );
    }
}
