//! The table of open connections, and the choice of one to close when a bound is reached.
//!
//! Connections that showed a valid token stay. Of the others, the table closes one of the address that has the most
//! of them: first an idle one, then one with a request in progress, the oldest of each. So a peer that holds
//! connections open displaces its own first, and can never keep the holder of a token out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::pulse::Pulse;
use super::{Connections, Peer};

/// The connections of one server.
#[derive(Debug)]
pub(super) struct Table {
    bounds: Connections,
    next: u64,
    /// By number, so the oldest first.
    entries: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    peer: Peer,
    pulse: Arc<Pulse>,
    evicted: CancellationToken,
}

impl Table {
    pub(super) const fn new(bounds: Connections) -> Self {
        Self {
            bounds,
            next: 0,
            entries: BTreeMap::new(),
        }
    }

    /// Adds a connection, and may close another one for it. `None`: there is no room.
    fn admit(&mut self, peer: &Peer, pulse: &Arc<Pulse>) -> Option<(u64, CancellationToken)> {
        let source = peer.source();
        if !source.is_loopback() {
            let of_it = self.of(source).count();
            if of_it >= self.bounds.per_address {
                let one = self.least_missed(Some(source))?;
                self.evict(one);
            }
        }
        if self.entries.len() >= self.bounds.in_all {
            let one = self.least_missed(None)?;
            self.evict(one);
        }
        let number = self.next;
        self.next += 1;
        let evicted = CancellationToken::new();
        let held = Held {
            peer: peer.clone(),
            pulse: Arc::clone(pulse),
            evicted: evicted.clone(),
        };
        self.entries.insert(number, held);
        Some((number, evicted))
    }

    fn of(&self, source: IpAddr) -> impl Iterator<Item = (&u64, &Held)> {
        self.entries
            .iter()
            .filter(move |(_, held)| held.peer.source() == source)
    }

    /// The connection to close to make room, of one source or of all.
    fn least_missed(&self, only: Option<IpAddr>) -> Option<u64> {
        let strangers = || {
            self.entries
                .iter()
                .filter(|(_, held)| !held.peer.is_known())
        };
        let from = match only {
            Some(source) => source,
            None => {
                let mut counts: HashMap<IpAddr, usize> = HashMap::new();
                for (_, held) in strangers() {
                    *counts.entry(held.peer.source()).or_default() += 1;
                }
                // Breaks ties the same way each time, whatever the map's order.
                counts
                    .into_iter()
                    .max_by_key(|(from, count)| (*count, *from))?
                    .0
            }
        };
        strangers()
            .filter(|(_, held)| held.peer.source() == from)
            .min_by_key(|(number, held)| (held.pulse.is_busy(), **number))
            .map(|(number, _)| *number)
    }

    fn evict(&mut self, number: u64) {
        if let Some(held) = self.entries.remove(&number) {
            held.evicted.cancel();
        }
    }
}

/// The table of the accept loop. Connections remove themselves.
#[derive(Debug, Clone)]
pub(super) struct SharedTable(Arc<Mutex<Table>>);

/// The decision on a new connection.
pub(super) enum Admission {
    /// It is in the table until this is dropped.
    Granted(TableEntry),
    /// Refused: all present connections showed a valid token.
    Refused,
}

/// A connection's place in the table.
pub(super) struct TableEntry {
    table: SharedTable,
    number: u64,
    evicted: CancellationToken,
}

impl SharedTable {
    pub(super) fn new(table: Table) -> Self {
        Self(Arc::new(Mutex::new(table)))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admit(&self, peer: &Peer, pulse: &Arc<Pulse>) -> Admission {
        let admitted = self.lock().admit(peer, pulse);
        admitted.map_or(Admission::Refused, |(number, evicted)| {
            Admission::Granted(TableEntry {
                table: self.clone(),
                number,
                evicted,
            })
        })
    }
}

impl TableEntry {
    /// Cancelled when the connection has to make room.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        self.table.lock().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    struct Rows {
        table: Table,
        tokens: Vec<CancellationToken>,
    }

    impl Rows {
        fn new(in_all: usize, per_address: usize) -> Self {
            let table = Table::new(Connections {
                in_all,
                per_address,
            });
            Self {
                table,
                tokens: Vec::new(),
            }
        }

        fn peer(address: &str) -> Peer {
            Peer::new(address.parse().unwrap())
        }

        /// Whether it is let in.
        fn connect(&mut self, peer: &Peer) -> bool {
            self.connect_busy(peer, false)
        }

        fn connect_busy(&mut self, peer: &Peer, is_busy: bool) -> bool {
            let pulse = Arc::new(Pulse::new(Instant::now()));
            if is_busy {
                pulse.request_begins();
            }
            let admitted = self.table.admit(peer, &pulse);
            let is_in = admitted.is_some();
            self.tokens
                .push(admitted.map(|(_, token)| token).unwrap_or_default());
            is_in
        }

        fn closed(&self) -> Vec<usize> {
            let closed = self.tokens.iter().enumerate();
            closed
                .filter_map(|(place, token)| token.is_cancelled().then_some(place))
                .collect()
        }
    }

    #[test]
    fn the_address_with_the_most_connections_loses_its_oldest_one_that_waits() {
        let mut rows = Rows::new(4, 4);
        let (one, many, new) = (
            Rows::peer("192.0.2.1"),
            Rows::peer("192.0.2.2"),
            Rows::peer("192.0.2.3"),
        );
        assert!(rows.connect(&one));
        assert!(rows.connect_busy(&many, true));
        assert!(rows.connect(&many));
        assert!(rows.connect(&many));
        assert!(rows.connect(&new));
        assert_eq!(rows.closed(), [2]);
    }

    #[test]
    fn one_address_makes_room_for_itself_first() {
        let mut rows = Rows::new(100, 2);
        let (one, other) = (Rows::peer("192.0.2.1"), Rows::peer("192.0.2.2"));
        assert!(rows.connect(&other));
        for _ in 0..5 {
            assert!(rows.connect(&one));
        }
        assert_eq!(rows.closed(), [1, 2, 3]);
    }

    #[test]
    fn who_showed_a_token_is_never_closed_and_others_are_turned_away() {
        let mut rows = Rows::new(2, 2);
        let known = [Rows::peer("192.0.2.1"), Rows::peer("127.0.0.1")];
        for peer in &known {
            peer.set_known();
            assert!(rows.connect(peer));
        }
        assert!(!rows.connect(&Rows::peer("192.0.2.9")));
        assert_eq!(rows.closed(), [0; 0]);
    }

    #[test]
    fn loopback_has_the_bound_of_all_and_a_network_of_ipv6_is_one_address() {
        let mut rows = Rows::new(100, 2);
        let local = Rows::peer("127.0.0.1");
        for _ in 0..50 {
            assert!(rows.connect(&local));
        }
        assert_eq!(rows.closed(), [0; 0]);
        for last in 1..=3 {
            assert!(rows.connect(&Rows::peer(&format!("2001:db8::{last}"))));
        }
        assert_eq!(rows.closed(), [50]);
    }
}
