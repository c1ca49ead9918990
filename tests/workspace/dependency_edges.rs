//! Holds the crates' dependencies against the table in ARCHITECTURE.md: a new edge between crates is
//! the change that deserves most review, so it cannot come unnoticed.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

const PREFIX: &str = "trainyard-";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn short(package: &str) -> String {
    package.strip_prefix(PREFIX).unwrap_or(package).to_owned()
}

fn permitted() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, rest) = page
        .split_once("<!-- edges:begin -->")
        .expect("the table's beginning");
    let (table, _) = rest
        .split_once("<!-- edges:end -->")
        .expect("the table's end");
    table
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let uses = cells[2]
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty());
            (cells[1].to_owned(), uses.map(ToOwned::to_owned).collect())
        })
        .collect()
}

fn actual() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let members: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    metadata
        .packages
        .iter()
        .map(|package| {
            let uses = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == DependencyKind::Normal)
                .map(|dependency| dependency.name.to_string())
                .filter(|name| members.contains(name))
                .map(|name| short(&name));
            (short(&package.name), uses.collect())
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_architecture_permits() {
    let permitted = permitted();
    for (package, uses) in actual() {
        let allowed = permitted
            .get(&package)
            .unwrap_or_else(|| panic!("{package} has no row in the table of ARCHITECTURE.md"));
        let surplus: Vec<&String> = uses.difference(allowed).collect();
        assert!(
            surplus.is_empty(),
            "{package} uses {surplus:?}, which ARCHITECTURE.md does not permit"
        );
    }
}

#[test]
fn the_table_names_only_crates_that_exist() {
    let actual = actual();
    for (package, uses) in permitted() {
        assert!(actual.contains_key(&package), "the table names {package}");
        for used in uses {
            assert!(
                actual.contains_key(&used),
                "the table lets {package} use {used}"
            );
        }
    }
}

#[test]
fn every_source_file_that_the_pages_name_is_there() {
    let mut named = 0;
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/reliability.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let paths = text.split('`').skip(1).step_by(2);
        for path in paths.filter(|path| path.contains("/src/") && !path.contains([' ', '{', '*'])) {
            let is_there = root().join(path).exists() || root().join("crates").join(path).exists();
            assert!(is_there, "{page} names `{path}`, which is not there");
            named += 1;
        }
    }
    assert!(named > 40, "the pages name their files in another way");
}
