//! How the keeper passes stop requests on to a running supervisor.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use trainyard_core::outcome::Reason;

/// A handle to a running supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StopSignal {
    pub(super) stop: Arc<watch::Sender<Option<Reason>>>,
    pub(super) forced: Arc<watch::Sender<Option<()>>>,
    pub(super) inspect: Arc<Notify>,
}

impl StopSignal {
    /// For a supervisor that is about to start.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stop: Arc::new(watch::Sender::new(None)),
            forced: Arc::new(watch::Sender::new(None)),
            inspect: Arc::new(Notify::new()),
        }
    }

    /// Asks for the attempt to be stopped. Asking again changes nothing.
    pub fn stop(&self, why: Reason) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(why);
            first
        });
    }

    /// Asks for an attempt that is to stop to leave out its outputs, too.
    pub fn force(&self) {
        self.forced.send_replace(Some(()));
    }

    /// Asks the supervisor to inspect its container: a listing disagreed with the state it has.
    pub fn inspect(&self) {
        self.inspect.notify_one();
    }
}

impl Default for StopSignal {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for a stop request.
pub(super) async fn asked<T>(stop: &mut watch::Receiver<Option<T>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}
