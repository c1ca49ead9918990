//! Outsiders that take every connection a Postgres has, and each one that becomes free.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cluster::{DATABASE, PrivateCluster};
use crate::proxy::Address;

/// The pause after Postgres had no room: short, to be first when there is some.
const PAUSE: Duration = Duration::from_millis(2);

/// Connections that do nothing but be there; they end when it is dropped.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    inside: AtomicUsize,
    /// How often there was no place in a row.
    refused: AtomicUsize,
}

impl Crowd {
    /// Begins to take connections.
    ///
    /// # Panics
    /// When the cluster has no TCP address.
    #[must_use]
    pub fn gather(cluster: &PrivateCluster) -> Self {
        let Address::Tcp(address) = cluster.tcp() else {
            panic!("a cluster of the rig is reached by TCP");
        };
        let shared = Arc::new(Shared::default());
        let gathering = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut inside = Vec::new();
            while !gathering.ended.load(Ordering::Relaxed) {
                match enter(address) {
                    Some(connection) => {
                        inside.push(connection);
                        gathering.refused.store(0, Ordering::Relaxed);
                        gathering.inside.store(inside.len(), Ordering::Relaxed);
                    }
                    None => {
                        gathering.refused.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// How many are inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.shared.inside.load(Ordering::Relaxed)
    }

    /// How often it was refused since it last got in.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A session, up to the point where it is ready; `None` if Postgres has no room.
fn enter(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let words = format!("user\0trainyard\0database\0{DATABASE}\0application_name\0outsider\0\0");
    let length = u32::try_from(words.len() + 8).ok()?;
    let mut startup = length.to_be_bytes().to_vec();
    startup.extend_from_slice(&196_608_u32.to_be_bytes());
    startup.extend_from_slice(words.as_bytes());
    stream.write_all(&startup).ok()?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).ok()?;
        let [kind, length @ ..] = head;
        let mut body = vec![0; (u32::from_be_bytes(length) as usize).checked_sub(4)?];
        stream.read_exact(&mut body).ok()?;
        match kind {
            b'Z' => return Some(stream),
            b'E' => return None,
            _ => {}
        }
    }
}
