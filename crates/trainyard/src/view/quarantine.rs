//! Quarantine: what is held back, and why.

use trainyard_api::Quarantined;

use crate::view::quantity::moment;
use crate::view::table::{Rows, cell};

/// The list of what is held back.
pub(crate) fn list(held: &[Quarantined], width: Option<u16>) -> String {
    let heads = ["ID", "WHAT", "NAME", "FAILED IN", "SINCE (UTC)", "REASON"];
    let mut rows = Rows::new(&heads, width);
    for one in held {
        rows.add(vec![
            cell(one.id.to_string()),
            cell(&one.kind),
            cell(&one.name),
            cell(&one.place),
            cell(moment(one.held_at)),
            cell(&one.reason),
        ]);
    }
    rows.text("nothing is held back")
}
