//! TCP and Unix sockets as one kind of address and one kind of stream.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host and port; port 0 to listen on any.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Any free port of this machine's loop-back interface.
    #[must_use]
    pub const fn any_port() -> Self {
        Self::Tcp(SocketAddr::new(
            std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            0,
        ))
    }
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens, and says where, with the port that was given.
    pub(super) async fn bind(address: &Address) -> std::io::Result<(Self, Address)> {
        Ok(match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = Address::Tcp(listener.local_addr()?);
                (Self::Tcp(listener), bound)
            }
            Address::Unix(path) => {
                // Left by an earlier proxy; no process listens on it any more.
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path)?;
                (Self::Unix(listener), address.clone())
            }
        })
    }

    pub(super) async fn accept(&self) -> std::io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => Stream::tcp(listener.accept().await?.0)?,
            Self::Unix(listener) => Stream::Unix(listener.accept().await?.0),
        })
    }
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn tcp(stream: TcpStream) -> std::io::Result<Self> {
        // A proxy that gathers small writes would be a fault of its own.
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    pub(super) async fn connect(address: &Address) -> std::io::Result<Self> {
        match address {
            Address::Tcp(address) => Self::tcp(TcpStream::connect(address).await?),
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Hangs up with a reset. A Unix socket has none: its peer sees the end, or a reset where bytes
    /// of its own were never read.
    pub(super) fn reset(self) {
        if let Self::Tcp(stream) = &self {
            // Without it the peer sees an orderly end, which is another fault than the one asked for.
            let _ = stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
