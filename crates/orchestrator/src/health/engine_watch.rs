//! Watches a Docker engine through the calls that are made to it: the breaker with its clock, and its effects.
//!
//! [`Guarded`](crate::health::guarded::Guarded) reports the calls. The change from one state to the other, which pauses
//! claims or lets them continue, is the callback's.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use trainyard_core::id::DaemonId;
use trainyard_executor::{Error, ErrorKind};
use trainyard_store::fleet::metrics::{BREAKER_STATE, BREAKER_TRIPS};

use crate::health::breaker::{About, Breaker, Change, Phase};

/// The state of one Docker engine. Clones share it.
#[derive(Clone)]
pub struct EngineWatch {
    shared: Arc<Shared>,
}

struct Shared {
    daemon: DaemonId,
    engine: Option<String>,
    state: Mutex<WatchState>,
    changed: Box<dyn Fn(Option<String>) + Send + Sync>,
}

impl fmt::Debug for EngineWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineWatch").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct WatchState {
    breaker: Breaker,
    listed: Instant,
}

impl EngineWatch {
    /// A watch over Docker that `daemon` uses; `engine` is its id, for the log. `changed` gets the problem when Docker
    /// stops answering, and `None` when it answers again.
    #[must_use]
    pub fn new(
        daemon: DaemonId,
        engine: Option<String>,
        changed: impl Fn(Option<String>) + Send + Sync + 'static,
    ) -> Self {
        let state = WatchState {
            breaker: Breaker::new(daemon),
            listed: Instant::now(),
        };
        Self {
            shared: Arc::new(Shared {
                daemon,
                engine,
                state: Mutex::new(state),
                changed: Box::new(changed),
            }),
        }
    }

    /// The time since its containers were last listed completely.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.state().listed.elapsed()
    }

    /// Whether a trial call to Docker is due; make it through a `Guarded`.
    #[must_use]
    pub fn take_trial(&self) -> bool {
        let trial = self.state().breaker.take_trial(Instant::now());
        self.show();
        trial
    }

    /// Records a complete listing of its containers.
    pub(crate) fn listed(&self) {
        self.state().listed = Instant::now();
    }

    /// Records how a call ended.
    pub(crate) fn report<T>(&self, about: About, result: &Result<T, Error>) {
        let change = {
            let mut state = self.state();
            match result {
                Err(error) if error.kind == ErrorKind::Unreachable => {
                    state.breaker.failed(about, Instant::now())
                }
                Ok(_) | Err(_) => state.breaker.answered(about),
            }
        };
        let Some(change) = change else { return };
        let shared = &self.shared;
        let (daemon, engine) = (shared.daemon, shared.engine.as_deref().unwrap_or("-"));
        let what = match change {
            Change::Opened => {
                BREAKER_TRIPS.add(1);
                let error = result.as_ref().err().map(ToString::to_string);
                warn!(daemon.id = %daemon, engine.id = engine, error, "Docker does not answer; nothing new is started until it does");
                Some("Docker does not answer".to_owned())
            }
            Change::Closed => {
                info!(daemon.id = %daemon, engine.id = engine, "Docker answers again");
                None
            }
        };
        self.show();
        (shared.changed)(what);
    }

    fn show(&self) {
        BREAKER_STATE.set(match self.state().breaker.phase() {
            Phase::Closed => 0.0,
            Phase::Trial => 1.0,
            Phase::Open => 2.0,
        });
    }

    fn state(&self) -> std::sync::MutexGuard<'_, WatchState> {
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
