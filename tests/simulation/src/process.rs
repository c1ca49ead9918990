//! A daemon's process: all of its tasks stop together (SIGSTOP), go on together, and die together.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trainyard_orchestrator::clock::{self, Clock};
use trainyard_orchestrator::tasks::Wrap;

use crate::docker::Claim;
use crate::held;

tokio::task_local! {
    static CLAIM: OnceLock<Arc<Claim>>;
}

/// Whom a process can be cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Engine,
    Store,
}

/// A process that can be stopped, killed and cut off.
pub(crate) struct Process {
    pub(crate) name: String,
    clock: Clock,
    killed: CancellationToken,
    paused: AtomicBool,
    engine_cut: AtomicBool,
    store_cut: AtomicBool,
    stopped: Mutex<Vec<Waker>>,
    /// Open connections to Docker break.
    pub(crate) broken: Notify,
}

impl Process {
    /// A process on a host with this clock.
    pub(crate) fn new(name: String, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            name,
            clock,
            killed: CancellationToken::new(),
            paused: AtomicBool::new(false),
            engine_cut: AtomicBool::new(false),
            store_cut: AtomicBool::new(false),
            stopped: Mutex::default(),
            broken: Notify::new(),
        })
    }

    /// Spawns a task of the process. What the task spawns belongs to the process as well.
    pub(crate) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let process = Arc::clone(self);
        let wrap = Wrap::new(move |work| Box::pin(Arc::clone(&process).run(work)));
        tokio::spawn(wrap.task(work));
    }

    async fn run(self: Arc<Self>, work: BoxFuture<'static, ()>) {
        let killed = self.killed.clone();
        let work = CLAIM.scope(OnceLock::new(), work);
        let work = Gated {
            work: Box::pin(clock::under(self.clock.clone(), work)),
            process: self,
        };
        tokio::select! {
            biased;
            () = killed.cancelled() => {}
            () = work => {}
        }
    }

    /// Nothing of it runs on from here, and what it has sent is on its way.
    pub(crate) fn kill(&self) {
        self.killed.cancel();
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
        self.killed.is_cancelled()
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

/// The claim that this task supervises; `None` in the loops.
pub(crate) fn claim() -> Option<Arc<Claim>> {
    CLAIM.try_with(|claim| claim.get().cloned()).ok().flatten()
}

/// From here on, this task supervises `claim`.
pub(crate) fn supervise(claim: Claim) {
    // Outside of a process nothing is supervised.
    drop(CLAIM.try_with(|held| held.set(Arc::new(claim))));
}

/// A task that is polled only while its process runs.
struct Gated {
    process: Arc<Process>,
    work: BoxFuture<'static, ()>,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
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
