//! A client of Docker for answers that are read whole, which are bounded here.
//!
//! An image's description is as long as whoever made the image wants it, and bollard reads an answer into
//! memory before anybody sees its size.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker as Client};
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use super::connect::NO_LIMIT;

/// The largest answer, in bytes.
pub(super) const AT_MOST: usize = 4 << 20;

/// A client for the engine at an address, whose answers are at most [`AT_MOST`] long.
pub(super) fn client(host: &str) -> Result<Client, bollard::errors::Error> {
    let connector = match host.strip_prefix("unix://") {
        Some(path) => Connector::Unix(PathBuf::from(path)),
        None => Connector::Tcp(host.rsplit("://").next().unwrap_or(host).to_owned()),
    };
    // As with bollard's own clients, each request has a connection of its own: it ends with its answer.
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector);
    let send = move |request: BollardRequest| {
        let sent = http.request(request);
        async move { sent.await.map_err(bollard::errors::Error::from) }
    };
    Client::connect_with_custom_transport(
        send,
        Some("http://docker"),
        NO_LIMIT,
        API_DEFAULT_VERSION,
    )
}

#[derive(Debug, Clone)]
enum Connector {
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
        let to = self.clone();
        Box::pin(async move {
            let stream: Box<dyn Stream> = match to {
                Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Self::Tcp(host) => Box::new(TcpStream::connect(host).await?),
            };
            Ok(TokioIo::new(Bounded { stream, read: 0 }))
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that ends with an error once too much was read from it.
struct Bounded {
    stream: Box<dyn Stream>,
    read: usize,
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
        self.read = self.read.saturating_add(buffer.filled().len() - before);
        if self.read > AT_MOST {
            let message = format!("the answer is longer than {AT_MOST} bytes");
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn class_17_an_image_of_a_huge_description_is_not_read_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let endless = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Id\":\"";
            connection.write_all(head.as_bytes()).await.unwrap();
            let mut sent = 0;
            while let Ok(count) = connection.write(&[b'x'; 65536]).await {
                sent += count;
            }
            sent
        };
        let client = client(&format!("unix://{}", path.display())).unwrap();
        let (sent, answer) = tokio::join!(endless, client.inspect_image("alpine:3"));
        assert!(answer.is_err(), "{answer:?}");
        assert!(sent < 2 * AT_MOST, "{sent}");
    }
}
