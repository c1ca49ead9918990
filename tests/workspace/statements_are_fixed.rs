//! Class 8: the text of each SQL statement is in the source. Values from outside are bound to it and never
//! becomes a part of it.
//!
//! The database library takes only `&'static str` and what is wrapped in `AssertSqlSafe`, so it is enough to look for
//! the ways around that.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::path::Path;

/// The one place that puts a statement together: from constants next to it.
const KNOWN: (&str, usize) = ("store/src/care/invariants.rs", 2);

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), text));
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(crates.join("crates")).unwrap() {
        let src = entry.unwrap().path().join("src");
        if src.is_dir() {
            sources(&src, &mut files);
        }
    }
    assert!(files.len() > 200, "the sources are somewhere else");
    files
}

#[test]
fn class_08_no_statement_is_put_together_from_text() {
    let mut wrapped = 0;
    for (path, text) in &all_sources() {
        for way in ["AssertSqlSafe", "QueryBuilder", "leak()"] {
            let count = text.matches(way).count();
            if way == "AssertSqlSafe" && path.ends_with(KNOWN.0) {
                wrapped = count;
                continue;
            }
            assert_eq!(count, 0, "{path} has {way}: bind values instead");
        }
        assert!(
            path.contains("/store/") || !text.contains("sqlx::query"),
            "{path} has SQL, which only the store has"
        );
    }
    assert_eq!(
        wrapped, KNOWN.1,
        "{} puts together another statement",
        KNOWN.0
    );
}

/// What an `update attempt` sets that says who holds the attempt.
const HOLDING: [&str; 11] = [
    "owner =",
    "executor =",
    "engine =",
    "fence =",
    "claimed_at =",
    "handle =",
    "image =",
    "started_at =",
    "state = 'queued'",
    "state = 'claimed'",
    "state = 'running'",
];

#[test]
fn who_holds_an_attempt_is_written_in_one_file() {
    let files = all_sources();
    let mut found = Vec::new();
    for (path, text) in &files {
        for update in text.split("update attempt ").skip(1) {
            let set = update.split("where").next().unwrap_or_default();
            if HOLDING.iter().any(|column| set.contains(column)) {
                found.push(path.rsplit_once("/src/").unwrap().1);
            }
        }
    }
    found.dedup();
    assert_eq!(found, ["attempts/holding.rs"]);
}
