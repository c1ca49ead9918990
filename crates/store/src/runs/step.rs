//! One step of the core over one run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use trainyard_core::Timestamp;
use trainyard_core::event::Event;
use trainyard_core::run::Run;
use trainyard_core::transition::{Step, step};

use crate::db::error::{Error, Result};
use crate::triggers::dags::PinnedDag;

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
) -> Result<Step> {
    let id = run.facts.id;
    // The run is dropped after a panic, so no code sees it half-changed.
    catch_unwind(AssertUnwindSafe(|| step(&pinned.dag, run, events, now))).map_err(|panic| {
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
