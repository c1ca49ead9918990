//! The HTTP server: an accept loop that a peer without a token cannot wear out.
//!
//! 1. HTTP/1 only: no streams that are reset in masses, no header continuations without end.
//! 2. Every phase of a connection has its time: [`pulse`] knows them, one task per connection holds them.
//! 3. Connections are bounded, in all and per address. The bound leaves most file descriptors to the daemon's
//!    own work. Where it is reached a newcomer takes the place of a connection that never showed a
//!    good token: [`table`] decides which.
//! 4. Where no descriptor is left all the same, the loop waits a moment instead of spinning.

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

/// How often a connection's time is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most bytes that are buffered of one connection, so the largest head of a request.
const BUFFER_AT_MOST: usize = 64 << 10;

/// How long the loop waits where the system has no descriptor for a new connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(250);

/// How often it is looked whether the log owes the number of lines about strangers that it left out.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// After an answer to a request whose body was not read, so many bytes of it are read and dropped, and for so long:
/// else the system would answer the rest with a reset, which takes the answer from its reader.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// What a peer gets for whom there is no room.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-type: application/json\r\ncontent-length: 70\r\nconnection: close\r\n\r\n{\"code\":\"unavailable\",\"message\":\"the daemon has too many connections\"}";

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub in_all: usize,
    /// From one address. Loopback is exempt: a reverse proxy on this machine speaks for many.
    pub per_address: usize,
}

/// Who is at the other end of a request's connection.
#[derive(Debug, Clone)]
pub struct Peer {
    address: IpAddr,
    is_known: Arc<AtomicBool>,
}

impl Peer {
    /// A peer that has not shown a token yet.
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

    /// What counts as one address: of IPv6 the network of 64 bits, which one customer has alone.
    pub(crate) fn source(&self) -> IpAddr {
        match self.address {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            other => other,
        }
    }

    /// Its token is good: the connection is kept where others have to make room.
    pub(crate) fn set_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}

/// Serves until `shutdown`, and then lets requests that are under way end for at most `last_requests`.
///
/// # Errors
/// Nothing can be accepted any more.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    strangers: Strangers,
    shutdown: CancellationToken,
    last_requests: Duration,
) -> std::io::Result<()> {
    let table = SharedTable::new(Table::new(connections));
    // One more than there may be: who is accepted waits here until the one that made room has closed.
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
        // It is closed never.
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

/// Whether a failed accept says something of that one connection only.
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
    /// Serves one connection to its end: the peer's, its time's, or that of the daemon.
    async fn run(self, stream: TcpStream, shutdown: CancellationToken) {
        let service = Service {
            peer: self.peer,
            pulse: Arc::clone(&self.pulse),
            router: self.router,
        };
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&self.pulse)));
        let mut connection = http1::Builder::new()
            // The pulse times heads, and tells an idle connection from a slow one.
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

/// Closes with grace: says that nothing more comes, and drops for a moment what still arrives.
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

/// One connection's requests, given to the router with their peer.
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

/// A request is under way as long as this is there.
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

/// A body that is part of its request's time.
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
