//! A daemon's process: all of its tasks stop together (SIGSTOP), go on together, and die together.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use crate::held;

/// Whom a process can be cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Engine,
    Store,
}

/// A process that can be stopped, killed and cut off.
pub(crate) struct Process {
    pub(crate) name: String,
    paused: AtomicBool,
    dead: AtomicBool,
    engine_cut: AtomicBool,
    store_cut: AtomicBool,
    stopped: Mutex<Vec<Waker>>,
    tasks: Mutex<JoinSet<()>>,
    /// Open connections to Docker break.
    pub(crate) broken: Notify,
}

impl Process {
    pub(crate) fn new(name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            paused: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            engine_cut: AtomicBool::new(false),
            store_cut: AtomicBool::new(false),
            stopped: Mutex::default(),
            tasks: Mutex::default(),
            broken: Notify::new(),
        })
    }

    pub(crate) fn spawn(
        self: &Arc<Self>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        if self.is_dead() {
            return None;
        }
        let gated = Gated {
            process: Arc::clone(self),
            work: Box::pin(work),
        };
        Some(held(&self.tasks).spawn(gated))
    }

    /// Nothing of it runs on from here, and what it has sent is on its way.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        held(&self.tasks).abort_all();
    }

    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        for waker in held(&self.stopped).drain(..) {
            waker.wake();
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub(crate) fn cut_off(&self, peer: Peer, cut: bool) {
        match peer {
            Peer::Engine => {
                self.engine_cut.store(cut, Ordering::Relaxed);
                self.broken.notify_waiters();
            }
            Peer::Store => self.store_cut.store(cut, Ordering::Relaxed),
        }
    }

    pub(crate) fn is_cut_off(&self, peer: Peer) -> bool {
        match peer {
            Peer::Engine => self.engine_cut.load(Ordering::Relaxed),
            Peer::Store => self.store_cut.load(Ordering::Relaxed),
        }
    }

    /// Passes while the process runs. A process that is to be paused or to end does so here.
    pub(crate) async fn gate(&self) {
        std::future::poll_fn(|_| {
            if self.is_dead() || self.is_paused() {
                // `Gated` polls again when the process goes on.
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

/// A task that is polled only while its process runs.
struct Gated {
    process: Arc<Process>,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.process.is_dead() {
            return Poll::Pending;
        }
        if self.process.is_paused() {
            held(&self.process.stopped).push(context.waker().clone());
            return Poll::Pending;
        }
        let polled = self.work.as_mut().poll(context);
        if polled.is_pending() && self.process.is_paused() {
            // It stopped in the middle.
            held(&self.process.stopped).push(context.waker().clone());
        }
        polled
    }
}
