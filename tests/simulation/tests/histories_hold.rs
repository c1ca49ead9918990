//! New histories: as many as the time permits, from where the environment says.

use trainyard_simulation::Settings;

use crate::kit;

#[test]
fn every_invariant_holds_in_every_history() {
    let first = kit::first_seed();
    let settings = Settings::default();
    let count = kit::histories(first, settings, kit::budget(), |seed, history| {
        assert!(
            history.violations.is_empty(),
            "{}",
            kit::report(seed, history, settings)
        );
        false
    });
    println!("{count} histories from seed {first}");
}
