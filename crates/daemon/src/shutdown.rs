//! Being asked to stop: Ctrl-C and SIGTERM.
//!
//! The first request cancels a token, and everything lets go of what it does: containers go on, and
//! the next start finds them. The second one ends the process at once.

use std::io;

use futures_util::{Stream, StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code after a second request, as a shell has it for SIGINT.
const INTERRUPTED: i32 = 130;

/// Listens for SIGINT and SIGTERM from now on. The token is cancelled by the first of them; the second
/// one ends the process with exit code 130, with nothing put in order.
///
/// # Errors
/// The handlers cannot be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let signals = stream::select(
        stream::poll_fn(move |context| interrupts.poll_recv(context)),
        stream::poll_fn(move |context| terminations.poll_recv(context)),
    );
    let token = CancellationToken::new();
    tokio::spawn(watch(signals, token.clone(), exit_now));
    Ok(token)
}

async fn watch(
    mut signals: impl Stream<Item = ()> + Unpin,
    token: CancellationToken,
    at_the_second: impl FnOnce(),
) {
    if signals.next().await.is_some() {
        info!(
            "stopping; stages that run go on, and the next start takes them over. Once more to stop at once"
        );
        token.cancel();
    }
    if signals.next().await.is_some() {
        warn!("stopped at once");
        at_the_second();
    }
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "asked twice: now, without destructors"
)]
fn exit_now() {
    std::process::exit(INTERRUPTED);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn the_first_request_cancels_and_the_second_ends() {
        let ended = Cell::new(false);
        let token = CancellationToken::new();
        watch(stream::iter([()]), token.clone(), || ended.set(true)).await;
        assert!(token.is_cancelled() && !ended.get());
        watch(stream::iter([(), ()]), token.clone(), || ended.set(true)).await;
        assert!(ended.get());
    }

    #[tokio::test]
    async fn nothing_is_cancelled_unasked() {
        let token = CancellationToken::new();
        watch(stream::empty(), token.clone(), || ()).await;
        assert!(!token.is_cancelled());
    }

    #[tokio::test]
    async fn a_real_signal_cancels() {
        let token = on_signals().unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        token.cancelled().await;
    }
}
