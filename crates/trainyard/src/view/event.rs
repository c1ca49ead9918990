//! The history of a run: its events, in words.

use owo_colors::OwoColorize;
use trainyard_api::RunEvent;
use trainyard_present::event::{described, outcome};
use trainyard_present::state::Mood;
use trainyard_present::zone::Zone;

use crate::view::plain;
use crate::view::screen::Screen;
use crate::view::state::Coloured;
use crate::view::table::{Cell, Rows, cell, moment};

/// The events of a run, one row each, in the given order.
pub(crate) fn list(events: &[RunEvent], screen: Screen) -> String {
    let heads = ["AT", "WHAT", "STAGE", "ATTEMPT", "DETAIL"];
    let mut rows = Rows::new(&heads, screen)
        .right(3)
        .moments(0)
        .names(&[2])
        .droppable(&[3]);
    for event in events {
        let (what, detail) = described(event, screen.zone);
        let attempt = event.attempt.map(|number| number.to_string());
        rows.add(vec![
            moment(event.at, screen),
            cell(what),
            cell(event.stage.as_deref().unwrap_or_default()),
            cell(attempt.unwrap_or_default()),
            coloured(cell(detail), event),
        ]);
    }
    rows.text("nothing happened to it yet")
}

/// An event as one line, for a history that is followed.
pub(crate) fn line(event: &RunEvent, zone: Zone) -> String {
    let (what, detail) = described(event, zone);
    let attempt = event.attempt.filter(|number| *number > 1);
    let place = match (&event.stage, attempt) {
        (Some(stage), Some(attempt)) => format!("{} (attempt {attempt}): ", plain(stage)),
        (Some(stage), None) => format!("{}: ", plain(stage)),
        (None, _) => String::new(),
    };
    let detail = match detail.as_str() {
        "" => String::new(),
        detail => format!(", {}", plain(detail)),
    };
    let at = zone.moment(event.at);
    format!("{}  {place}{}{detail}", at.bright_black(), plain(what))
}

fn coloured(cell: Cell, event: &RunEvent) -> Cell {
    match outcome(event) {
        Some(outcome) => cell.fg(Mood::of(outcome).colour()),
        None => cell,
    }
}
