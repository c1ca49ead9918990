//! One step of the core over one run: what it touched, and the rows for its history.

use std::panic::{AssertUnwindSafe, catch_unwind};

use trainyard_core::Timestamp;
use trainyard_core::event::Event;
use trainyard_core::run::Run;
use trainyard_core::transition::{apply, step};

use crate::db::encoding::event::{EventRow, event_row};
use crate::db::error::{Error, Result};
use crate::runs::advance::Advanced;
use crate::runs::change::Touched;
use crate::triggers::dags::PinnedDag;

/// The result of a step.
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    pub(crate) advanced: Advanced,
    pub(crate) touched: Touched,
    /// The applied events, in order; empty where nothing changed.
    pub(crate) events: Vec<EventRow>,
    pub(crate) wake_at: Option<Timestamp>,
}

/// Applies events and plans.
///
/// # Errors
/// `Corrupt` where the core panics over the state. It never should; if it does, the error concerns this run, and the
/// other runs of the transaction continue.
pub(crate) fn take_step(
    pinned: &PinnedDag,
    run: &mut Run,
    events: &[Event],
    now: Timestamp,
) -> Result<Stepped> {
    let id = run.facts.id;
    // The run is dropped after a panic, so no code sees it half-changed.
    catch_unwind(AssertUnwindSafe(|| step_once(pinned, run, events, now))).map_err(|panic| {
        let problem = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Error::corrupt(
            format!("run {id}"),
            format!("planning it panicked: {problem}"),
        )
    })
}

fn step_once(pinned: &PinnedDag, run: &mut Run, events: &[Event], now: Timestamp) -> Stepped {
    let mut stepped = Stepped::default();
    for event in events {
        match apply(&pinned.dag, run, event, now) {
            Ok(()) => {
                stepped.touched.note(event, run);
                stepped.events.push(event_row(event, run));
            }
            Err(illegal) => stepped.advanced.refused.push(illegal),
        }
    }
    let step = step(&pinned.dag, run, &[], now);
    stepped.wake_at = step.wake_at;
    stepped.advanced.refused.extend(step.refused);
    for effect in &step.effects {
        let event = Event::Planned(effect.clone());
        stepped.touched.note(&event, run);
        stepped.events.push(event_row(&event, run));
    }
    stepped.advanced.effects = step.effects;
    stepped
}
