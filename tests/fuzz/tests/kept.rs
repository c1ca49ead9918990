//! Earlier findings stay fixed, and the search finds planted faults.

use std::time::Duration;

use trainyard_fuzz::{Counting, Target, attempt, kept, search, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn every_input_that_was_found_and_every_sample_keeps_the_bounds() {
    for target in targets::ALL {
        for (path, input) in kept(target).unwrap() {
            assert_eq!(attempt(target, &input), None, "{}", path.display());
        }
        for sample in target.samples {
            assert_eq!(attempt(target, sample), None, "{}", target.name);
        }
    }
}

#[test]
fn a_short_search_finds_nothing_new() {
    for target in targets::ALL {
        // A second is enough, unless the machine is busy.
        let mut tried = 0;
        for seed in 1..=60 {
            let search = search(target, seed, Duration::from_secs(1));
            assert!(
                search.found.is_none(),
                "{}: {:?}",
                target.name,
                search.found
            );
            tried += search.tried;
            if tried > 10 {
                break;
            }
        }
        assert!(tried > 10, "{}: {tried} tried", target.name);
    }
}

#[test]
fn a_panic_a_long_look_and_much_memory_are_found() {
    let target = |call| Target {
        name: "bad",
        call,
        samples: &[b"honest"],
        words: &["bad"],
    };
    let panics = target(|input| assert!(!input.windows(3).any(|part| part == b"bad")));
    let found = search(&panics, 1, Duration::from_secs(20)).found.unwrap();
    assert!(found.broken.starts_with("panicked"), "{}", found.broken);
    assert_eq!(found.input, b"bad", "it is made short");
    let eats = target(|input| drop(Vec::<u8>::with_capacity(input.len() << 14)));
    let found = search(&eats, 1, Duration::from_secs(20)).found.unwrap();
    assert!(found.broken.ends_with("MiB"), "{}", found.broken);
    let sleeps = target(|input| {
        if input.len() > 100 {
            std::thread::sleep(Duration::from_millis(2100));
        }
    });
    let found = search(&sleeps, 1, Duration::from_secs(20)).found.unwrap();
    assert!(found.broken.starts_with("took 2"), "{}", found.broken);
}
