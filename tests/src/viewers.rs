//! Viewers who ask for much of a log and read nothing of it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use crate::daemon::Daemon;

/// How many pieces each requests in advance: many times what the kernel buffers for a connection without a reader.
const PIECES: u64 = 128;

/// From where one piece is asked for to where the next one is, in bytes.
const STEP: u64 = 256 << 10;

/// Connections that are not read.
#[derive(Debug)]
pub struct Viewers {
    connections: Vec<TcpStream>,
}

impl Viewers {
    /// So many viewers that ask at `path` for a log of which `stored` bytes are stored, from its beginning over and
    /// over.
    ///
    /// # Panics
    /// When the daemon takes no connection.
    #[must_use]
    pub fn of(daemon: &Daemon, path: &str, stored: u64, count: usize) -> Self {
        let address = daemon.url().trim_start_matches("http://");
        let token = daemon.token();
        let asked: String = (0..PIECES)
            .map(|piece| {
                let offset = piece * STEP % stored;
                format!(
                    "GET {path}?offset={offset} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
                )
            })
            .collect();
        let connections = (0..count)
            .map(|_| {
                let mut connection = TcpStream::connect(address).unwrap();
                connection.write_all(asked.as_bytes()).unwrap();
                connection
            })
            .collect();
        Self { connections }
    }

    /// How many of them hold answers back: the kernel has some from the daemon that it cannot deliver.
    ///
    /// # Panics
    /// Where the kernel does not list connections.
    #[must_use]
    pub fn held_back(&self) -> usize {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        self.connections
            .iter()
            .filter(|connection| has_unsent(&sockets, connection))
            .count()
    }
}

/// Whether the daemon's end of a connection is listed with something that is still to be sent.
fn has_unsent(sockets: &str, connection: &TcpStream) -> bool {
    let theirs = as_listed(connection.peer_addr().unwrap());
    let ours = as_listed(connection.local_addr().unwrap());
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        // The first entry of the two queues is to be sent.
        words.next() == Some(&theirs)
            && words.next() == Some(&ours)
            && words
                .nth(1)
                .is_some_and(|queues| !queues.starts_with("00000000:"))
    })
}

/// An address as the kernel lists it.
fn as_listed(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        panic!("{address} is listed elsewhere");
    };
    let host = u32::from_ne_bytes(address.ip().octets());
    format!("{host:08X}:{:04X}", address.port())
}
