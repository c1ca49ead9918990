//! One history, from a seed to what was noticed.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::chaos::Stage;
use crate::engine::Engine;
use crate::held;
use crate::settings::Settings;
use crate::store::Store;
use crate::world::{Violation, World};

/// How long after the last fault every run must have ended: the longest patience of any part, for as
/// many attempts as a stage may have, for each stage in a row.
const ENDS_WITHIN: Duration = Duration::from_secs(2 * 60 * 60);

/// The result of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The violations; empty if all invariants held.
    pub violations: Vec<Violation>,
    /// The events, if a trace was requested.
    pub trace: Vec<String>,
    /// How many runs there were.
    pub runs: u64,
    /// How many programs were started.
    pub programs: u64,
    /// How long it took, in its own time.
    pub took: Duration,
}

thread_local! {
    static SCRATCH: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// A folder for outputs, for all histories of this thread; in memory where there is such a place.
fn scratch() -> PathBuf {
    SCRATCH.with(|scratch| {
        let mut scratch = scratch.borrow_mut();
        let folder = scratch.get_or_insert_with(|| {
            let memory = Path::new("/dev/shm");
            let made = if memory.is_dir() {
                tempfile::tempdir_in(memory)
            } else {
                tempfile::tempdir()
            };
            // Without a folder for temporary files there is nothing to simulate in.
            made.expect("a temporary folder")
        });
        folder.path().to_owned()
    })
}

/// Runs the history of a seed. The same seed and settings give the same history.
#[must_use]
pub fn run(seed: u64, settings: Settings) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        // A runtime without threads and sockets has nothing that can fail.
        .expect("a runtime");
    runtime.block_on(play(seed, settings))
}

async fn play(seed: u64, settings: Settings) -> History {
    let world = Arc::new(World::new(seed, settings));
    let dags: Vec<_> = world.draw(|random| {
        let count = random.pick(&[1, 1, 2]);
        (0..count)
            .map(|place| crate::dags::dag(random, place))
            .collect()
    });
    for dag in &dags {
        world.note(|| format!("{:?}", dag.declared()));
    }
    let count = dags.len() as u64;
    let engine = Engine::new(Arc::clone(&world));
    let store = Store::new(Arc::clone(&world), dags);
    let stage = Stage::new(Arc::clone(&world), engine, store, scratch(), count);
    stage.play().await;
    stage.heal();
    let healed = world.elapsed();
    while !stage.is_over() && world.elapsed() < healed + ENDS_WITHIN {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.revive_the_dead();
    }
    stage.check();
    let (violations, trace) = world.noticed();
    History {
        violations,
        trace,
        runs: held(&stage.store).runs.len() as u64,
        programs: held(&world.witness).starts(),
        took: world.elapsed(),
    }
}
