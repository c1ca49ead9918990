//! The HTTP server: an accept loop that a peer without a token cannot exhaust.
//!
//! 1. HTTP/1 only: this rules out mass resets of streams and endless header continuations.
//! 2. Every phase of a connection has a time limit: [`pulse`] has them, one task per connection enforces them.
//! 3. Connections are bounded, in all and per address. The bound leaves most file descriptors to the daemon's own
//!    work. At the bound, a new connection replaces one that never showed a valid token: [`table`] decides which.
//! 4. When no descriptor is left nevertheless, the loop waits a moment instead of spinning.

mod pulse;
mod stream;
mod table;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::strangers::Strangers;

use self::pulse::Pulse;
use self::stream::Watched;
use self::table::{Admission, SharedTable, Table};

/// How often the time limits of a connection are checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most bytes that are buffered of one connection: the largest head of a request.
const BUFFER_AT_MOST: usize = 64 << 10;

/// How long the loop waits when there is no file descriptor for a new connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(250);

/// How often the server checks whether it still has to log the number of suppressed log lines.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// After an answer to a request whose body was not read, up to this many bytes are read and dropped, for at most this
/// long. Otherwise the system would answer the rest with a reset, and the peer would lose the answer.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// The answer to a connection beyond the bound.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-type: application/json\r\ncontent-length: 70\r\nconnection: close\r\n\r\n{\"code\":\"unavailable\",\"message\":\"the daemon has too many connections\"}";

/// The bounds on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub in_all: usize,
    /// From one address. Loopback is exempt: a reverse proxy on this machine serves many clients.
    pub per_address: usize,
}

/// The peer of a request's connection.
#[derive(Debug, Clone)]
pub struct Peer {
    address: IpAddr,
    is_known: Arc<AtomicBool>,
}

impl Peer {
    /// A peer that has not shown a valid token yet.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            is_known: Arc::default(),
        }
    }

    /// The address that the connection comes from: the reverse proxy's where there is one.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The unit of the bound per address: for IPv6 the /64 network, which belongs to one customer.
    pub(crate) fn source(&self) -> IpAddr {
        match self.address {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            other => other,
        }
    }

    /// Its token is valid: the connection is not closed to make room.
    pub(crate) fn set_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}

/// Serves until `shutdown`, then waits at most `last_requests` for requests in progress.
///
/// # Errors
/// The listening socket failed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    strangers: Strangers,
    shutdown: CancellationToken,
    last_requests: Duration,
) -> std::io::Result<()> {
    let table = SharedTable::new(Table::new(connections));
    // One more than the bound: an accepted connection waits here until the one that it replaces has closed.
    let room = Arc::new(Semaphore::new(connections.in_all));
    let tasks = TaskTracker::new();
    let mut summary = tokio::time::interval(SUMMARY_EVERY);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            _ = summary.tick() => {
                strangers.log_rest();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, Peer::new(address.ip())),
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                strangers.log_accept_failed(&error);
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(OUT_OF_DESCRIPTORS) => continue,
                }
            }
        };
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let entry = match table.admit(&peer, &pulse) {
            Admission::Granted(entry) => entry,
            Admission::Refused => {
                strangers.log_no_room(peer.address());
                // Best effort: the buffer of a new connection has room for it.
                let _ = stream.try_write(NO_ROOM);
                continue;
            }
        };
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&room).acquire_owned() => permit,
        };
        // It is never closed.
        let Ok(permit) = permit else { break };
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            peer,
            pulse,
            evicted: entry.evicted(),
            router: router.clone(),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            connection.run(stream, shutdown).await;
            drop(entry);
            drop::<OwnedSemaphorePermit>(permit);
        });
    }
    drop(listener);
    tasks.close();
    let _ = tokio::time::timeout(last_requests, tasks.wait()).await;
    Ok(())
}

/// Whether a failed accept concerns that one connection only.
fn is_of_the_peer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

struct Connection {
    peer: Peer,
    pulse: Arc<Pulse>,
    evicted: CancellationToken,
    router: Router,
}

impl Connection {
    /// Serves one connection until the peer closes it, a time limit passes, or the daemon stops.
    async fn run(self, stream: TcpStream, shutdown: CancellationToken) {
        let service = Service {
            peer: self.peer,
            pulse: Arc::clone(&self.pulse),
            router: self.router,
        };
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&self.pulse)));
        let mut connection = http1::Builder::new()
            // The pulse times heads: unlike hyper's timer, it distinguishes an idle connection from a slow one.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_AT_MOST)
            .serve_connection(io, service);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut is_ending = false;
        loop {
            tokio::select! {
                ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                    if ended.is_ok() {
                        tokio::select! {
                            () = linger(connection.into_parts().io.into_inner()) => {}
                            () = self.evicted.cancelled() => {}
                        }
                    }
                    return;
                }
                () = self.evicted.cancelled() => return,
                () = shutdown.cancelled(), if !is_ending => {
                    is_ending = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                _ = look.tick() => {
                    if self.pulse.is_over(Instant::now()) {
                        return;
                    }
                }
            }
        }
    }
}

/// Closes gracefully: shuts down the write side, and drops for a moment what still arrives.
async fn linger(mut io: Watched) {
    if io.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 16 << 10];
    let mut dropped = 0;
    let read = async {
        while let Ok(count @ 1..) = io.read(&mut rest).await {
            dropped += count;
            if dropped > LINGER_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, read).await;
}

/// Passes the requests of one connection to the router, with their peer.
struct Service {
    peer: Peer,
    pulse: Arc<Pulse>,
    router: Router,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Tracked>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Tracked>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let busy = Busy::new(Arc::clone(&self.pulse));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        let router = self.router.clone();
        Box::pin(async move {
            let response = router.oneshot(request).await?;
            Ok(response.map(|body| Tracked { body, _busy: busy }))
        })
    }
}

/// A request is in progress until this is dropped.
struct Busy(Arc<Pulse>);

impl Busy {
    fn new(pulse: Arc<Pulse>) -> Self {
        pulse.request_begins();
        Self(pulse)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ends(Instant::now());
    }
}

/// A body that keeps its request in progress until it is dropped.
struct Tracked {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_for_who_has_no_room_is_whole() {
        let text = std::str::from_utf8(NO_ROOM).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        let error: trainyard_api::ErrorBody = serde_json::from_str(body).unwrap();
        assert_eq!(error.code, "unavailable");
    }
}
