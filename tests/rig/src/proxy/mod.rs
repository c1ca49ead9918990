//! `FaultProxy`: stands between a client and its upstream, and breaks what passes by rule.
//!
//! It understands enough of HTTP/1.1 and of Postgres' protocol to strike one request and not its
//! neighbour, and to do the worst that a network can: let a request be carried out and drop its
//! answer. Rules may be changed while connections are open; every fault that strikes is recorded, so
//! that a test can assert that it did. Given the same seed and the same traffic it does the same.
//!
//! It runs on a thread of its own, so that tests may be plain functions. It speaks no TLS.

mod address;
mod book;
mod connection;
mod rule;
mod wire;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use trainyard_tests::wait::until;

pub use self::address::Address;
use self::address::Listener;
use self::book::Book;
pub use self::book::Fired;
pub use self::rule::{Action, Matcher, Pattern, Rule};
pub use self::wire::{Direction, Protocol};

/// A proxy; its listener and its connections end when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: Address,
    seed: u64,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug)]
struct Shared {
    upstream: Address,
    protocol: Protocol,
    book: Mutex<Book>,
    /// Changed to cut all connections that are open.
    cut: watch::Sender<()>,
    accepted: AtomicU64,
    open: AtomicUsize,
}

impl Shared {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultProxy {
    /// Listens at `listen` and forwards to `upstream`, which need not be there yet.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(listen: &Address, upstream: Address, protocol: Protocol, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fault-proxy")
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            upstream,
            protocol,
            book: Mutex::new(Book::new(seed)),
            cut: watch::Sender::new(()),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        });
        let (tell, reported) = std::sync::mpsc::channel();
        let (place, accepting) = (listen.clone(), Arc::clone(&shared));
        runtime.spawn(async move {
            match Listener::bind(&place).await {
                Ok((listener, address)) => {
                    tell.send(Ok(address)).unwrap();
                    accept(&listener, &accepting).await;
                }
                Err(error) => tell.send(Err(error)).unwrap(),
            }
        });
        let address = reported
            .recv()
            .unwrap()
            .unwrap_or_else(|error| panic!("a proxy cannot listen at {listen:?}: {error}"));
        Self {
            address,
            seed,
            shared,
            runtime: Some(runtime),
        }
    }

    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Adds a rule below those that hold. The first that strikes is the one that counts.
    pub fn add(&self, rule: Rule) {
        self.shared.book().add(rule);
    }

    /// Removes all rules: from now on everything passes. They and what they struck stay in the record.
    pub fn clear(&self) {
        self.shared.book().clear();
    }

    /// The rules that struck, in order.
    #[must_use]
    pub fn fired(&self) -> Vec<Fired> {
        self.shared.book().fired.clone()
    }

    /// How often the rules of this name have struck, of those that hold: after [`Proxy::clear`] it begins
    /// at nothing.
    #[must_use]
    pub fn count(&self, rule: &str) -> usize {
        self.shared.book().struck(rule)
    }

    /// Waits until the rules of this name that hold have struck `times` times.
    ///
    /// # Panics
    /// When it has not within `bound`.
    #[track_caller]
    pub fn until_fired(&self, rule: &str, times: usize, bound: Duration) {
        until(&format!("{rule}, {times} times"), bound, || {
            match self.count(rule) {
                count if count >= times => Ok(()),
                count => Err(format!("{count} times")),
            }
        });
    }

    /// Cuts every connection that is open, with a reset. Returns how many there were.
    pub fn cut_all(&self) -> usize {
        let open = self.open();
        self.shared.cut.send_replace(());
        open
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// How many connections ever came.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Everything that repeats or explains what it did: seed, every rule that held at any time, and what
    /// struck.
    #[must_use]
    pub fn record(&self) -> String {
        let (seed, upstream) = (self.seed, &self.shared.upstream);
        let book = self.shared.book().record();
        format!("seed {seed}\nupstream {upstream:?}\n{book}")
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn accept(listener: &Listener, shared: &Arc<Shared>) {
    // A failure to accept is about one client, or about this process' files: the next may do.
    loop {
        let Ok(client) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        shared.open.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            connection::serve(client, number, Arc::clone(&shared)).await;
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
