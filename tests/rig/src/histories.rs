//! The results of the simulation's histories: the journal of `simulate`, as a row of the table.
//!
//! The file is the simulation's (`trainyard_simulation::Night`): a name and a value a line. Nothing of it
//! is written here.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::summary::Summary;

/// The name of the journal in a folder of results, and of its row in the table.
pub(crate) const HISTORIES: &str = "histories";

/// The row, where there is a journal that can be read.
pub(crate) fn row(folder: &Path) -> Option<Summary> {
    let path = folder.join(HISTORIES);
    let text = fs::read_to_string(&path).ok()?;
    let values: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let number = |name: &str| values.get(name)?.parse::<usize>().ok();
    let (histories, failed) = (number(HISTORIES)?, number("failed")?);
    let again = format!(
        "{HISTORIES}: red seeds are in {}; one again: cargo run --release --locked --package \
         trainyard-simulation --bin simulate -- --once --seed SEED",
        path.with_extension("red").display()
    );
    Some(Summary {
        fault: HISTORIES.to_owned(),
        trials: histories,
        planned: histories,
        violations: failed,
        recoveries: Vec::new(),
        target: "every invariant holds in each".to_owned(),
        build: values.get("build").map(|build| (*build).to_owned()),
        red: (failed > 0).then_some(again).into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_tests::place::Place;

    #[test]
    fn histories_have_a_row_where_their_journal_is() {
        let place = Place::new();
        assert_eq!(row(place.path()), None);
        place.write(
            "histories",
            "build 00ff\nfirst 7\nhistories 640\nfailed 2\nprograms 9\n",
        );
        let row = row(place.path()).unwrap();
        assert_eq!(
            row.to_string(),
            "| histories | 640 | 2 | – | – | every invariant holds in each |"
        );
        assert_eq!(row.build.as_deref(), Some("00ff"));
        assert!(row.red[0].contains("/histories.red; "), "{}", row.red[0]);
    }

    #[test]
    fn a_journal_of_before_builds_were_noted_has_none() {
        let place = Place::new();
        place.write("histories", "7 640 0 9 1 1\n");
        assert_eq!(row(place.path()), None);
    }
}
