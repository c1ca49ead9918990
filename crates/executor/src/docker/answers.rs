//! A client of Docker that bounds answers whose length a stranger decides.
//!
//! An image's author decides how long its description is, and Docker repeats whatever a registry sent in place of an
//! image. bollard reads an answer, and each line of a stream, into memory before its size can be checked.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bollard::errors::Error as Bollard;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker as Client};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use http::Uri;
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use super::connect::NO_LIMIT;

/// How long an answer may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) burst: usize,
    /// And how much for each second that it goes on.
    pub(super) per_second: usize,
}

/// A description that is read whole.
pub(super) const DESCRIPTION: Bound = Bound {
    burst: 4 << 20,
    per_second: 0,
};

/// The progress of a pull, for hours: Docker writes ten lines of 200 bytes in a second for each layer that it works
/// on, of which there are 127 at most. bollard reads a line again with each piece that comes, so a long one costs
/// more than memory.
pub(super) const PROGRESS: Bound = Bound {
    burst: 512 << 10,
    per_second: 64 << 10,
};

/// The output of a build: the reader bounds it.
const BUILD: Bound = Bound {
    burst: usize::MAX,
    per_second: usize::MAX,
};

/// A list of images, of which little is kept: up to a quarter of a MiB of labels for each of some thousands.
const LIST: Bound = Bound {
    burst: 1 << 30,
    per_second: 0,
};

/// The longest answer in place of a build or a list, in bytes.
const REFUSAL: usize = 64 << 10;

/// The beginning of the error for an answer that is too long, as far as bollard passes it on.
pub(super) const TOO_LONG: &str = "the answer is longer than";

/// Whether an answer was too long: bollard does not report why a stream broke off.
#[derive(Debug, Clone, Default)]
pub(super) struct Exceeded(Arc<AtomicBool>);

impl Exceeded {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client for Docker at an address, whose answers are bounded; and whether one of them was too long.
pub(super) fn client(
    host: &str,
    bound: Bound,
) -> Result<(Client, Exceeded), bollard::errors::Error> {
    let exceeded = Exceeded::default();
    let http = connection(host, bound, exceeded.clone());
    let send = move |request: BollardRequest| {
        let sent = http.request(request);
        async move { sent.await.map_err(bollard::errors::Error::from) }
    };
    let client = Client::connect_with_custom_transport(
        send,
        Some("http://docker"),
        NO_LIMIT,
        API_DEFAULT_VERSION,
    )?;
    Ok((client, exceeded))
}

/// As with bollard's own clients, each request has a connection of its own: it ends with its answer.
fn connection<B>(
    host: &str,
    bound: Bound,
    exceeded: Exceeded,
) -> hyper_util::client::legacy::Client<Connector, B>
where
    B: http_body::Body<Data: Send> + Send,
{
    let to = match host.strip_prefix("unix://") {
        Some(path) => Address::Unix(PathBuf::from(path)),
        None => Address::Tcp(host.rsplit("://").next().unwrap_or(host).to_owned()),
    };
    let connector = Connector {
        to,
        bound,
        exceeded,
    };
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector)
}

/// Sends an archive, and yields the answer piece by piece: bollard does not read those of BuildKit.
pub(super) fn post_archive(
    host: &str,
    path: &str,
    archive: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl futures_util::Stream<Item = Result<Bytes, Bollard>> + Send {
    let request = http::Request::post(format!("http://docker{path}"))
        .header(http::header::CONTENT_TYPE, "application/x-tar")
        .body(bollard::body_try_stream(archive));
    pieces(host, BUILD, request)
}

/// Requests a list, and yields it piece by piece: bollard reads it into memory.
pub(super) fn get(
    host: &str,
    path: &str,
) -> impl futures_util::Stream<Item = Result<Bytes, Bollard>> + Send + use<> {
    let nothing = bollard::body_full(Bytes::new());
    let request = http::Request::get(format!("http://docker{path}")).body(nothing);
    pieces(host, LIST, request)
}

fn pieces(
    host: &str,
    bound: Bound,
    request: http::Result<BollardRequest>,
) -> impl futures_util::Stream<Item = Result<Bytes, Bollard>> + Send + use<> {
    let http = connection(host, bound, Exceeded::default());
    let answer = async move {
        let answer = http.request(request?).await?;
        let status = answer.status();
        let body = answer.into_body();
        if status.is_success() {
            return Ok(body.into_data_stream().map_err(Bollard::from));
        }
        let said = Limited::new(body, REFUSAL).collect().await;
        let said = said.map(|body| body.to_bytes()).unwrap_or_default();
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
        Err(Bollard::DockerResponseServerError {
            status_code: status.as_u16(),
            message: said["message"].as_str().unwrap_or_default().to_owned(),
        })
    };
    stream::once(answer).try_flatten()
}

#[derive(Debug, Clone)]
struct Connector {
    to: Address,
    bound: Bound,
    exceeded: Exceeded,
}

#[derive(Debug, Clone)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Bounded>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self {
            to,
            bound,
            exceeded,
        } = self.clone();
        Box::pin(async move {
            let stream: Box<dyn Stream> = match to {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp(host) => Box::new(TcpStream::connect(host).await?),
            };
            Ok(TokioIo::new(Bounded {
                stream,
                bound,
                left: bound.burst,
                since: Instant::now(),
                exceeded,
            }))
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that fails once too much was read from it: a token bucket.
struct Bounded {
    stream: Box<dyn Stream>,
    bound: Bound,
    /// How many bytes may be read at once.
    left: usize,
    /// The time up to which the bucket was filled.
    since: Instant,
    exceeded: Exceeded,
}

impl Bounded {
    /// Counts the bytes read; `false` if they were more than allowed.
    fn spend(&mut self, read: usize) -> bool {
        let seconds = self.since.elapsed().as_secs();
        self.since += Duration::from_secs(seconds);
        let more = usize::try_from(seconds)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.bound.per_second);
        self.left = self.left.saturating_add(more).min(self.bound.burst);
        let enough = read <= self.left;
        self.left = self.left.saturating_sub(read);
        enough
    }
}

impl Connection for Bounded {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        if !self.spend(read) {
            self.exceeded.0.store(true, Ordering::Relaxed);
            let message = format!("{TOO_LONG} {} bytes", self.bound.burst);
            return Poll::Ready(Err(io::Error::other(message)));
        }
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use bollard::query_parameters::CreateImageOptions;
    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use trainyard_failpoint::{Flow as _, Point};

    use crate::docker::errors::CallError;

    /// Sends a head and then a text without an end, and returns how much of it was read.
    async fn endless(listener: UnixListener, head: &str) -> usize {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = connection.read(&mut request).await;
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut sent = 0;
        while let Ok(count) = connection.write(&[b'x'; 65536]).await {
            sent += count;
        }
        sent
    }

    #[tokio::test]
    async fn class_17_an_image_of_a_huge_description_is_not_read_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Id\":\"";
        let (client, exceeded) =
            client(&format!("unix://{}", path.display()), DESCRIPTION).unwrap();
        let (sent, answer) =
            tokio::join!(endless(listener, head), client.inspect_image("alpine:3"));
        let call_error = CallError::from(answer.unwrap_err());
        assert!(
            call_error.text().contains(TOO_LONG) && exceeded.is_so(),
            "{call_error:?}"
        );
        assert!(sent < 2 * DESCRIPTION.burst, "{sent}");
    }

    #[tokio::test]
    async fn class_17_what_a_registry_sends_for_an_image_is_not_read_into_memory() {
        // Docker repeats it in the answer or, once the pull has begun, in a line of the progress.
        for head in [
            "HTTP/1.1 500 Error\r\n\r\n{\"message\":\"",
            "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("docker.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let (client, exceeded) =
                client(&format!("unix://{}", path.display()), PROGRESS).unwrap();
            let pulled = client
                .create_image(None::<CreateImageOptions>, None, None)
                .at(Point::PullImage)
                .collect::<Vec<_>>();
            let (sent, lines) = tokio::join!(endless(listener, head), pulled);
            assert!(
                lines.last().unwrap().is_err() && exceeded.is_so(),
                "{lines:?}"
            );
            assert!(sent < 2 * PROGRESS.burst, "{sent}");
        }
    }

    #[test]
    fn a_pull_may_go_on_for_hours() {
        let (stream, _) = tokio::io::duplex(1);
        let mut bounded = Bounded {
            stream: Box::new(stream),
            bound: PROGRESS,
            left: PROGRESS.burst,
            since: Instant::now(),
            exceeded: Exceeded::default(),
        };
        for _ in 0..1000 {
            assert!(bounded.spend(5 * PROGRESS.per_second));
            bounded.since -= Duration::from_secs(5);
        }
        assert!(!bounded.spend(PROGRESS.burst + 1));
    }
}
