//! The statements of `docs/dag-file.md` about stages are true.

use std::collections::BTreeSet;

use trainyard_core::param::ParamValue;
use trainyard_core::render::render;
use trainyard_core::trigger::Pattern;

use crate::generate::draft::{dag_of, index, named, run_of};

const PAGE: &str = include_str!("../../../docs/dag-file.md");

/// The rows below a table's head, each as its cells.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let (_, table) = PAGE.split_once(head).expect("the table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The pieces of code in a cell.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_reference_lists_every_variable_of_a_stage() {
    let dag = dag_of(vec![named("train")], |_| {});
    let mut run = run_of(&dag, 7);
    let name = "epochs".parse().expect("a name");
    run.facts.params.insert(name, ParamValue::Integer(3));
    let rendered = render(&dag, &run, index(&dag, "train"), 1).expect("a stage");
    let there: BTreeSet<String> = rendered
        .env
        .into_keys()
        // The executor sets these two.
        .chain(["INPUTS".to_owned(), "OUTPUTS".to_owned()])
        .map(|name| name.replace("EPOCHS", "<NAME>"))
        .collect();
    let rows = rows("| variable | is |");
    let listed: BTreeSet<String> = rows
        .iter()
        .flat_map(|cells| code(cells[0]).map(str::to_owned))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn patterns_match_what_the_reference_says() {
    let rows = rows("| pattern | matches | does not match |");
    assert!(rows.len() >= 6, "{rows:?}");
    for cells in rows {
        let pattern = code(cells[0]).next().expect("a pattern");
        let pattern = Pattern::new(pattern).expect("a valid pattern");
        for text in code(cells[1]) {
            assert!(pattern.matches(text), "{pattern:?} does not match {text}");
        }
        for text in code(cells[2]) {
            assert!(!pattern.matches(text), "{pattern:?} matches {text}");
        }
    }
}
