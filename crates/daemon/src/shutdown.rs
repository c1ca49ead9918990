//! Stops the daemon on Ctrl-C and SIGTERM.
//!
//! 1. The first signal cancels a token, and all parts of the daemon end. Containers keep running, and the next start
//!    adopts them.
//! 2. The second signal ends the process at once, and the Postgres of `dev` with it.
//! 3. Parts that have not ended by the end of the grace period are abandoned, and the process ends.
//!
//! This happens on a thread and a runtime of its own, since the daemon's runtime may hang.

use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;
use std::{fmt, io};

use futures_util::{Stream, StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The grace period in which all parts of the daemon have to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long an orderly stop of the private Postgres may take after that.
const LAST: Duration = Duration::from_secs(8);

/// How long writing the last log line may take: its reader may hang as well.
const WORDS: Duration = Duration::from_millis(200);

/// The exit code after a second signal, as shells use it for SIGINT.
const INTERRUPTED: i32 = 130;

/// The exit code if a part did not end in time.
const OVERDUE: i32 = 1;

/// The two tokens that stop a daemon.
#[derive(Clone, Default)]
pub struct Stopping {
    /// Cancelled by the first signal.
    pub asked: CancellationToken,
    /// Cancelled when the grace period is over: then the daemon only waits for the private Postgres.
    pub overdue: CancellationToken,
    /// Cancelled when the process ends now: the thread for signals ends it, with its exit code.
    pub now: CancellationToken,
    /// What is done before the process ends out of order; it returns what there is to say.
    last: Arc<OnceLock<LastAct>>,
}

type LastAct = Box<dyn Fn() -> String + Send + Sync>;

impl Stopping {
    /// Has something done before the process ends out of order, in moments and on another thread. The first call
    /// counts.
    pub fn at_the_last(&self, act: impl Fn() -> String + Send + Sync + 'static) {
        let _ = self.last.set(Box::new(act));
    }

    fn do_the_last(&self) -> Option<String> {
        self.now.cancel();
        self.last.get().map(|act| act())
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopping").finish_non_exhaustive()
    }
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Twice,
    Overdue,
}

/// Listens for SIGINT and SIGTERM from now on. The first of them begins the stop, the second one ends the
/// process with exit code 130, without any clean-up but [`Stopping::at_the_last`].
///
/// # Errors
/// The handlers cannot be installed.
pub fn on_signals() -> io::Result<Stopping> {
    let stopping = Stopping::default();
    let theirs = stopping.clone();
    let (to, installed) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(to.send(Err(error))),
            };
            runtime.block_on(async {
                match signals() {
                    Ok(signals) => {
                        let _ = to.send(Ok(()));
                        let end = watch(signals, theirs.clone()).await;
                        exit(end, theirs.do_the_last());
                    }
                    Err(error) => drop(to.send(Err(error))),
                }
            });
        })?;
    installed
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread for signals has ended")))?;
    Ok(stopping)
}

fn signals() -> io::Result<impl Stream<Item = ()> + Unpin> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    Ok(stream::select(
        stream::poll_fn(move |context| interrupts.poll_recv(context)),
        stream::poll_fn(move |context| terminations.poll_recv(context)),
    ))
}

/// Returns when the process has to end, whatever it is doing.
async fn watch(mut signals: impl Stream<Item = ()> + Unpin, stopping: Stopping) -> End {
    if signals.next().await.is_none() {
        return std::future::pending().await;
    }
    // Before logging, since the reader of the log may hang.
    stopping.asked.cancel();
    say(
        "stopping; running stages keep running, and the next start adopts them. Ask again to stop at once".to_owned(),
    );
    let overdue = async {
        tokio::time::sleep(GRACE).await;
        stopping.overdue.cancel();
        tokio::time::sleep(LAST).await;
    };
    tokio::select! {
        again = signals.next() => match again {
            Some(()) => End::Twice,
            None => std::future::pending().await,
        },
        () = overdue => End::Overdue,
    }
}

/// Logs a line from a thread of its own, since logging may hang.
fn say(words: String) {
    let (to, said) = mpsc::sync_channel::<()>(1);
    let thread = std::thread::Builder::new().spawn(move || {
        tracing::info!("{words}");
        let _ = to.send(());
    });
    if thread.is_ok() {
        let _ = said.recv_timeout(WORDS);
    }
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "after a second signal, or when a part hangs, the process ends at once, without destructors"
)]
fn exit(end: End, more: Option<String>) -> ! {
    let (words, code) = match end {
        End::Twice => ("stopped at once", INTERRUPTED),
        End::Overdue => (
            "stopped: a part of the daemon did not end in time; the next start cleans up",
            OVERDUE,
        ),
    };
    say(more.map_or_else(|| words.to_owned(), |more| format!("{words}; {more}")));
    std::process::exit(code);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_request_cancels_and_the_second_ends() {
        let stopping = Stopping::default();
        let end = watch(stream::iter([(), ()]), stopping.clone()).await;
        assert!(stopping.asked.is_cancelled() && !stopping.overdue.is_cancelled());
        assert_eq!(end, End::Twice);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_in_time_is_abandoned() {
        let stopping = Stopping::default();
        let begun = tokio::time::Instant::now();
        let one = stream::iter([()]).chain(stream::pending());
        let end = watch(one, stopping.clone()).await;
        assert_eq!(end, End::Overdue);
        assert!(
            stopping.overdue.is_cancelled(),
            "the orderly stop was requested first"
        );
        assert_eq!(begun.elapsed(), GRACE + LAST);
    }

    #[test]
    fn what_is_left_to_do_is_done_by_the_thread_that_ends_the_process() {
        let stopping = Stopping::default();
        let theirs = stopping.clone();
        assert_eq!(Stopping::default().do_the_last(), None);
        stopping.at_the_last(|| "Postgres was stopped".to_owned());
        assert_eq!(
            theirs.do_the_last().as_deref(),
            Some("Postgres was stopped")
        );
        assert!(stopping.now.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_cancelled_unasked() {
        let stopping = Stopping::default();
        let watched = watch(stream::pending(), stopping.clone());
        assert!(tokio::time::timeout(GRACE * 9, watched).await.is_err());
        assert!(!stopping.asked.is_cancelled());
    }

    #[tokio::test]
    async fn a_real_signal_cancels_while_every_thread_of_the_runtime_hangs() {
        let stopping = on_signals().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        // This blocks the runtime's only thread.
        let begun = std::time::Instant::now();
        while !stopping.asked.is_cancelled() {
            assert!(begun.elapsed() < GRACE / 2, "the signal was not handled");
            std::thread::yield_now();
        }
    }
}
