//! A witness outside of Trainyard's records: stages report to it over the network.
//!
//! It listens where containers on Docker's default network reach this host. In a stage:
//! `wget -q -O- "$WITNESS/start-$TRAINYARD_ATTEMPT"`, with [`Witness::address`] in `WITNESS`.
//! A stage can also wait for the test: a path under `/gate/` answers only once it was opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::engine::{IMAGE, docker};

/// The longest wait at a gate.
const GATE_AT_MOST: Duration = Duration::from_secs(900);

/// Hears what stages say.
#[derive(Debug, Clone)]
pub struct Witness {
    address: String,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    journal: Option<File>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<String, usize>,
    open: BTreeSet<String>,
}

impl Witness {
    /// A witness on a port of its own.
    ///
    /// # Panics
    /// When Docker has no default network.
    #[must_use]
    pub fn new() -> Self {
        Self::at(&gateway(), None)
    }

    /// A witness on a port of its own of this host's address `host`. Each saying is appended to
    /// `journal`, if there is one, before it is answered.
    ///
    /// # Panics
    /// When it cannot listen, or write.
    #[must_use]
    pub fn at(host: &str, journal: Option<File>) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Heard {
            journal,
            ..Heard::default()
        });
        let hearing = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hearing = Arc::clone(&hearing);
                std::thread::spawn(move || hear(&hearing, &stream));
            }
        });
        Self { address, heard }
    }

    /// The URL that stages reach it at.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How often this was said.
    ///
    /// # Panics
    /// When a hearing thread panicked.
    #[must_use]
    pub fn count(&self, saying: &str) -> usize {
        self.heard
            .state
            .lock()
            .unwrap()
            .counts
            .get(saying)
            .copied()
            .unwrap_or(0)
    }

    /// All that was said, with how often.
    ///
    /// # Panics
    /// When a hearing thread panicked.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, usize> {
        self.heard.state.lock().unwrap().counts.clone()
    }

    /// Lets stages that wait at `/gate/NAME` go on, now and later.
    ///
    /// # Panics
    /// When a hearing thread panicked.
    pub fn open(&self, name: &str) {
        self.heard
            .state
            .lock()
            .unwrap()
            .open
            .insert(name.to_owned());
        self.heard.changed.notify_all();
    }
}

impl Default for Witness {
    fn default() -> Self {
        Self::new()
    }
}

fn hear(heard: &Heard, stream: &TcpStream) {
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line).is_err() {
        return;
    }
    let path = line
        .split(' ')
        .nth(1)
        .unwrap_or("")
        .trim_start_matches('/')
        .to_owned();
    let mut state = heard.state.lock().unwrap();
    *state.counts.entry(path.clone()).or_default() += 1;
    if let Some(mut journal) = heard.journal.as_ref() {
        journal.write_all(format!("{path}\n").as_bytes()).unwrap();
    }
    heard.changed.notify_all();
    if let Some(gate) = path.strip_prefix("gate/") {
        let closed = |state: &mut State| !state.open.contains(gate);
        drop(
            heard
                .changed
                .wait_timeout_while(state, GATE_AT_MOST, closed)
                .unwrap(),
        );
    }
    // The stage may be gone by now.
    let _ = (&mut &*stream).write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
}

/// This host's address on Docker's default network, as containers see it.
fn gateway() -> String {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = docker(&["network", "inspect", "bridge", "--format", format]);
    if !gateway.is_empty() {
        return gateway;
    }
    // Docker does not always know it.
    let routes = docker(&["run", "--rm", IMAGE, "ip", "route"]);
    let route = routes
        .lines()
        .find_map(|line| line.strip_prefix("default via "));
    route
        .and_then(|route| route.split(' ').next())
        .unwrap_or_else(|| panic!("no way out of Docker's default network: {routes}"))
        .to_owned()
}
