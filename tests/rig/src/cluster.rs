//! A Postgres of a test's own, reached by TCP and by a Unix socket, with `fsync` on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use trainyard_cluster::Cluster;
use trainyard_tests::daemon::signal;
use trainyard_tests::place::Place;
use trainyard_tests::wait::until;

use crate::dice::Dice;
use crate::disk::LoopDisk;
use crate::moment;
use crate::processes;
use crate::proxy::Address;

/// The database that daemons use.
pub const DATABASE: &str = "trainyard";

/// Postgres' own port: clusters differ by their loop-back addresses.
const PORT: u16 = 5432;

/// How long a start may take: a killed cluster recovers first, and its processes have to end.
const START: Duration = Duration::from_secs(300);

/// How Postgres is restarted or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sessions are ended, then it stops in order.
    Fast,
    /// As after a crash: it recovers at its next start.
    Immediate,
}

impl Mode {
    const fn word(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// A running cluster; stopped when it is dropped.
#[derive(Debug)]
pub struct PrivateCluster {
    cluster: Cluster,
    address: SocketAddr,
    disk: Option<LoopDisk>,
}

impl PrivateCluster {
    /// Makes and starts one below `place`.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start(place: &Place, max_connections: u32) -> Self {
        Self::make(place, max_connections, None)
    }

    /// The same on a disk of its own of `size` bytes.
    ///
    /// # Panics
    /// As [`PrivateCluster::start`], and without the right to mount.
    #[must_use]
    pub fn on_disk(place: &Place, max_connections: u32, size: u64) -> Self {
        let disk = LoopDisk::new(&place.join("cluster.disk"), &place.join("cluster"), size);
        Self::make(place, max_connections, Some(disk))
    }

    fn make(place: &Place, max_connections: u32, disk: Option<LoopDisk>) -> Self {
        let address = free_address();
        let settings = vec![
            ("listen_addresses", address.ip().to_string()),
            ("fsync", "on".to_owned()),
            ("max_connections", max_connections.to_string()),
        ];
        Self {
            cluster: Cluster::start_with(&place.join("cluster"), settings),
            address,
            disk,
        }
    }

    /// Its disk, where it has one of its own.
    #[must_use]
    pub const fn disk(&self) -> Option<&LoopDisk> {
        self.disk.as_ref()
    }

    /// Whether the postmaster is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.cluster.postmaster().is_some_and(processes::is_alive)
    }

    #[must_use]
    pub const fn tcp(&self) -> Address {
        Address::Tcp(self.address)
    }

    #[must_use]
    pub fn socket(&self) -> Address {
        Address::Unix(self.cluster.folder().join(format!(".s.PGSQL.{PORT}")))
    }

    /// The URL of the daemons' database, past all proxies.
    #[must_use]
    pub fn url(&self) -> String {
        self.cluster.database().url()
    }

    /// The URL of the daemons' database as reached at `address`: a proxy's, or its own.
    #[must_use]
    pub fn url_at(&self, address: &Address) -> String {
        match address {
            Address::Tcp(address) => format!("postgres://trainyard@{address}/{DATABASE}"),
            Address::Unix(socket) => {
                let folder = socket.parent().unwrap_or_else(|| Path::new("/"));
                let folder = folder.display().to_string().replace('/', "%2F");
                format!("postgres://trainyard@{folder}/{DATABASE}")
            }
        }
    }

    /// Restarts it.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn restart(&self, mode: Mode) {
        self.cluster.restart(mode.word());
    }

    /// Stops it.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn down(&self, mode: Mode) {
        self.cluster.down(mode.word());
    }

    /// Starts it after it was stopped, or killed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(&self) {
        until("Postgres", START, || self.cluster.try_up());
    }

    /// Kills the postmaster with SIGKILL, and waits until it is gone; its other processes notice.
    ///
    /// # Panics
    /// When it is down, or stays.
    pub fn kill(&self) {
        let postmaster = self.postmaster();
        processes::kill_all(&[postmaster]);
    }

    /// Freezes the postmaster: it accepts no new sessions, existing ones go on.
    ///
    /// # Panics
    /// When it is down.
    pub fn freeze(&self) {
        signal(self.postmaster(), "STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is down.
    pub fn thaw(&self) {
        signal(self.postmaster(), "CONT");
    }

    /// Changes how many connections it takes, and restarts it.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn limit_connections(&mut self, count: u32) {
        self.cluster.set("max_connections", &count.to_string());
        self.restart(Mode::Fast);
    }

    /// Runs SQL in the daemons' database and returns what it printed, unaligned.
    ///
    /// # Panics
    /// When the SQL fails.
    #[must_use]
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.database().sql(sql)
    }

    /// The same, of a database that may refuse it.
    ///
    /// # Errors
    /// The log of Postgres.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.cluster.database().try_sql(sql)
    }

    /// All that the daemons' database holds, as SQL.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn dump(&self) -> String {
        self.cluster.database().dump()
    }

    /// All that Postgres printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        self.cluster.log()
    }

    pub(crate) fn postmaster(&self) -> u32 {
        self.cluster.postmaster().expect("Postgres is up")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.cluster.data()
    }
}

/// A loop-back address whose port of Postgres is free. Nothing else searches for one at random, so it
/// stays free until Postgres takes it.
fn free_address() -> SocketAddr {
    let mut dice =
        Dice::new(u64::from(std::process::id()) ^ moment::now().timestamp_micros().unsigned_abs());
    loop {
        let [second, third, fourth, ..] = dice.roll().to_be_bytes();
        let address = Ipv4Addr::new(127, second.max(1), third, fourth.clamp(1, 254));
        let address = SocketAddr::from((address, PORT));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
