//! Holds the names of types to one meaning each, so that a search for a name finds one thing.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names of several types, and why.
const SHARED: [(&str, &str); 3] = [
    (
        "Error",
        "each crate has its own, named with its crate elsewhere",
    ),
    ("Result", "as `Error`"),
    (
        "Verb",
        "each group of commands has its own, next to its commands",
    ),
];

/// Names of two types, of which the one in `crates/api` is the wire form of the other.
const WIRE_FORMS: [&str; 10] = [
    "Attempt",
    "Cause",
    "DaemonInfo",
    "Dag",
    "Delivery",
    "NewRepo",
    "Principal",
    "Reason",
    "Run",
    "Stage",
];

/// Where a type is defined: `crates/core/src/run.rs:12`.
type Places = BTreeMap<String, Vec<String>>;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The name of the type that a line defines for other modules.
fn defined(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = ["pub ", "pub(crate) "]
        .iter()
        .find_map(|visible| line.strip_prefix(visible))?;
    let rest = ["struct ", "enum ", "trait ", "type "]
        .iter()
        .find_map(|kind| rest.strip_prefix(kind))?;
    let end = rest.find(|character: char| !character.is_alphanumeric());
    let name = &rest[..end.unwrap_or(rest.len())];
    // The others are variables of macros.
    name.starts_with(char::is_uppercase).then_some(name)
}

fn definitions() -> Places {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for krate in std::fs::read_dir(root.join("crates")).unwrap() {
        sources(&krate.unwrap().path().join("src"), &mut files);
    }
    files.sort();
    let mut places = Places::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(root).unwrap().display();
        for (number, line) in text.lines().enumerate() {
            if let Some(name) = defined(line) {
                let place = format!("{shown}:{}", number + 1);
                places.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    places
}

fn is_wire_form(places: &[String]) -> bool {
    let wire = |place: &&String| place.starts_with("crates/api/");
    places.len() == 2 && places.iter().filter(wire).count() == 1
}

#[test]
fn a_name_is_of_one_type() {
    let definitions = definitions();
    assert!(definitions.len() > 400, "the sources are somewhere else");
    let doubled = definitions.iter().filter(|(name, places)| {
        let is_shared = SHARED.iter().any(|(shared, _)| shared == name);
        let is_wire = WIRE_FORMS.contains(&name.as_str()) && is_wire_form(places);
        places.len() > 1 && !is_shared && !is_wire
    });
    let doubled: Vec<String> = doubled
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    assert!(
        doubled.is_empty(),
        "name each after what it is:\n{}",
        doubled.join("\n")
    );
}

#[test]
fn every_exception_is_needed() {
    let definitions = definitions();
    let shared = SHARED.iter().map(|(name, _)| *name);
    let unneeded: BTreeSet<&str> = shared
        .chain(WIRE_FORMS)
        .filter(|name| definitions.get(*name).is_none_or(|places| places.len() < 2))
        .collect();
    assert_eq!(unneeded, BTreeSet::new(), "remove these exceptions");
}

#[test]
fn definitions_are_recognised() {
    assert_eq!(defined("pub struct Run {"), Some("Run"));
    assert_eq!(
        defined("    pub(crate) type Rows<'a> = &'a [Row];"),
        Some("Rows")
    );
    assert_eq!(defined("pub enum $name {"), None);
    assert_eq!(defined("pub(super) struct Entry;"), None);
    assert_eq!(defined("type Item = u8;"), None);
}
