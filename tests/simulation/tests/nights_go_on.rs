//! A night of histories goes on where it was interrupted, as long as it is of the same build.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

const SIMULATE: &str = env!("CARGO_BIN_EXE_simulate");

fn simulate(program: &Path, journal: &Path, seconds: u32, more: &[&str]) -> Output {
    Command::new(program)
        .args(["--seed", "1000", "--seconds", &seconds.to_string()])
        .arg("--journal")
        .arg(journal)
        .args(more)
        .output()
        .unwrap()
}

fn number(journal: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(journal).unwrap();
    let mut values = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = values.find(|(known, _)| *known == name).unwrap();
    value.parse().unwrap()
}

/// Runs histories until `seconds` were spent in all. Returns how far it came: first seed, and how many.
fn night(journal: &Path, seconds: u32) -> [u64; 2] {
    let output = simulate(Path::new(SIMULATE), journal, seconds, &[]);
    assert!(output.status.success(), "{output:?}");
    ["first", "histories"].map(|name| number(journal, name))
}

#[test]
fn it_goes_on_behind_the_last_seed_and_counts_the_time_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("histories");
    let first = night(&journal, 1);
    assert!(first[1] > 0);
    assert_eq!(night(&journal, 1), first, "its second is spent");
    // Histories come in shares, and one of them may take longer than a second.
    let spent = u32::try_from(number(&journal, "took_ms") / 1_000).unwrap();
    let second = night(&journal, spent + 1);
    assert_eq!(second[0], first[0]);
    assert!(second[1] > first[1], "{second:?}");
}

#[test]
fn another_build_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("histories");
    night(&journal, 1);
    let former = std::fs::read_to_string(&journal).unwrap();
    // Bytes after the end of a program change nothing but its hash.
    let another = folder.path().join("simulate");
    std::fs::copy(SIMULATE, &another).unwrap();
    let mut program = std::fs::File::options()
        .append(true)
        .open(&another)
        .unwrap();
    program.write_all(b"another").unwrap();
    drop(program);
    let output = simulate(&another, &journal, 1, &[]);
    assert!(output.status.success(), "{output:?}");
    let reported = String::from_utf8(output.stdout).unwrap();
    let (_, aside) = reported.lines().next().unwrap().rsplit_once(' ').unwrap();
    assert!(reported.starts_with("starting over"), "{reported}");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), former);
    assert!(number(&journal, "histories") > 0, "its own second");
}

#[test]
fn red_seeds_are_kept_next_to_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("histories");
    let mistake = ["--keep-going", "--mutation", "forgets-pools"];
    let output = simulate(Path::new(SIMULATE), &journal, 1, &mistake);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let red = std::fs::read_to_string(journal.with_extension("red")).unwrap();
    assert_eq!(red.lines().count() as u64, number(&journal, "failed"));
    let (seed, violated) = red.lines().next().unwrap().split_once('\t').unwrap();
    let reported = String::from_utf8(output.stdout).unwrap();
    let first = format!("seed {seed}: ");
    let said = reported.lines().find_map(|line| line.strip_prefix(&first));
    assert!(violated.starts_with(said.unwrap()), "{red}");
}
