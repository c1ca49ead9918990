//! A daemon's connection to the store: statements and answers that may get lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Store;
use crate::held;
use crate::network::exchange;
use crate::process::{Peer, Process};
use crate::world::World;

/// How long a statement is waited for.
const DEADLINE: Duration = Duration::from_secs(10);

/// The store did not answer. The request may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// A connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
    store: Arc<Mutex<Store>>,
}

impl Link {
    pub(crate) fn new(world: Arc<World>, process: Arc<Process>, store: Arc<Mutex<Store>>) -> Self {
        Self {
            world,
            process,
            store,
        }
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        transaction: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let store = Arc::clone(&self.store);
        let answer = exchange(
            &self.world,
            &self.process,
            Peer::Store,
            DEADLINE,
            move |_| {
                let mut store = held(&store);
                (!store.down).then(|| transaction(&mut store))
            },
        );
        answer.await.ok().flatten().ok_or(Unavailable)
    }
}
