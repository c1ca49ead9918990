//! A night of histories goes on where it was interrupted.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot go on fails, with the place and the error"
)]

use std::path::Path;
use std::process::Command;

/// Runs histories until `seconds` were spent in all. Returns how far it came: first seed, and how many.
fn night(journal: &Path, seconds: u32) -> [u64; 2] {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(["--seed", "1000", "--seconds", &seconds.to_string()])
        .arg("--journal")
        .arg(journal)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(journal).unwrap();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

#[test]
fn it_goes_on_behind_the_last_seed_and_counts_the_time_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("histories");
    let first = night(&journal, 1);
    assert!(first[1] > 0);
    assert_eq!(night(&journal, 1), first, "its second is spent");
    let second = night(&journal, 2);
    assert_eq!(second[0], first[0]);
    assert!(second[1] > first[1], "{second:?}");
}
