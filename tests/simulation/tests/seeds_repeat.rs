//! A seed gives the same history each time.

use trainyard_simulation::{Settings, run};

#[test]
fn a_seed_repeats_the_same_history() {
    let settings = Settings {
        trace: true,
        ..Settings::default()
    };
    for seed in 1..40 {
        let (first, second) = (run(seed, settings), run(seed, settings));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn looking_on_changes_nothing() {
    for seed in 1..40 {
        let quiet = run(seed, Settings::default());
        let reported = run(
            seed,
            Settings {
                trace: true,
                ..Settings::default()
            },
        );
        assert_eq!(
            (quiet.programs, quiet.took),
            (reported.programs, reported.took),
            "seed {seed}"
        );
    }
}
