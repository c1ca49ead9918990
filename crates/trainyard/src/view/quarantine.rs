//! Quarantine: its repos, DAGs and runs, with reasons.

use trainyard_api::Quarantined;

use crate::view::screen::Screen;
use crate::view::table::{Rows, cell, moment};

/// The list of quarantined repos, DAGs and runs.
pub(crate) fn list(held: &[Quarantined], screen: Screen) -> String {
    let heads = ["ID", "WHAT", "NAME", "FAILED IN", "SINCE", "REASON"];
    let mut rows = Rows::new(&heads, screen)
        .moments(4)
        .names(&[2])
        .droppable(&[3, 4]);
    for one in held {
        rows.add(vec![
            cell(one.id.to_string()),
            cell(&one.kind),
            cell(&one.name),
            cell(&one.place),
            moment(one.held_at, screen),
            cell(&one.reason),
        ]);
    }
    rows.text("nothing is in quarantine")
}
