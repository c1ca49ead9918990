//! An input whose reading does not end: it is written down, and the process ends, since nothing else would.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::targets::Target;

/// So long no machine is busy.
const HANGS_AFTER: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(500);

type Current = Mutex<Option<(Instant, Vec<u8>)>>;

/// Watches over one search, as long as it is there.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Current>);

impl Watch {
    pub(crate) fn begin(target: &Target, seed: u64) -> Self {
        let current = Arc::new(Current::default());
        let seen = Arc::downgrade(&current);
        let target = *target;
        std::thread::spawn(move || watch(&seen, &target, seed));
        Self(current)
    }

    fn current(&self) -> MutexGuard<'_, Option<(Instant, Vec<u8>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tries(&self, input: &[u8]) {
        *self.current() = Some((Instant::now(), input.to_vec()));
    }

    pub(crate) fn rests(&self) {
        *self.current() = None;
    }
}

#[expect(clippy::print_stderr, reason = "the process ends with it")]
fn watch(seen: &Weak<Current>, target: &Target, seed: u64) {
    while let Some(current) = seen.upgrade() {
        let current = Watch(current);
        if let Some((since, input)) = &*current.current()
            && since.elapsed() > HANGS_AFTER
        {
            let file = crate::keep(target, seed, input);
            eprintln!("{}: does not end; the input is in {file:?}", target.name);
            std::process::abort();
        }
        drop(current);
        std::thread::sleep(LOOK_EVERY);
    }
}
