//! Viewers who ask for much of a log and read nothing of it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use trainyard_tests::daemon::Daemon;

/// How many there are.
pub(super) const VIEWERS: usize = 20;

/// How many pages each asks for in advance, of a mebibyte each: many times what the kernel keeps of a connection
/// that nobody reads.
const PAGES: u64 = 32;

/// Connections that are not read.
pub(super) struct Viewers {
    connections: Vec<TcpStream>,
}

impl Viewers {
    /// Asks at `path` for a log of which so many mebibytes are stored, from its beginning over and over.
    pub(super) fn of(daemon: &Daemon, path: &str, mebibytes: u64) -> Self {
        let address = daemon.url().trim_start_matches("http://");
        let token = daemon.token();
        let asked: String = (0..PAGES)
            .map(|page| {
                let offset = (page % mebibytes) << 20;
                format!(
                    "GET {path}?offset={offset} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
                )
            })
            .collect();
        let connections = (0..VIEWERS)
            .map(|_| {
                let mut connection = TcpStream::connect(address).unwrap();
                connection.write_all(asked.as_bytes()).unwrap();
                connection
            })
            .collect();
        Self { connections }
    }

    /// How many of them hold answers back: the kernel has some from the daemon that it cannot deliver.
    pub(super) fn held_back(&self) -> usize {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        self.connections
            .iter()
            .filter(|connection| {
                let theirs = hexadecimal(connection.peer_addr().unwrap());
                let ours = hexadecimal(connection.local_addr().unwrap());
                sockets.lines().any(|line| {
                    let mut words = line.split_whitespace().skip(1);
                    // The daemon's end of it.
                    words.next() == Some(&theirs)
                        && words.next() == Some(&ours)
                        && words
                            .nth(1)
                            .is_some_and(|queues| !queues.starts_with("00000000:"))
                })
            })
            .count()
    }
}

/// An address as the kernel lists it.
fn hexadecimal(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        panic!("{address}, which is not listed where this looks");
    };
    let host = u32::from_ne_bytes(address.ip().octets());
    format!("{host:08X}:{:04X}", address.port())
}
