//! A daemon whose Postgres and whose Docker are proxies, and that may be killed, frozen and started
//! again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use trainyard_tests::daemon::{Daemon, Launch, signal};
use trainyard_tests::place::Place;

use crate::cluster::PrivateCluster;
use crate::disk::LoopDisk;
use crate::engine::PrivateEngine;
use crate::processes;
use crate::proxy::{Address, FaultProxy, Protocol};

/// A daemon; killed when it is dropped.
#[derive(Debug)]
pub struct RiggedDaemon {
    daemon: Option<Daemon>,
    frozen: bool,
    configuration: String,
    launch: Launch,
    /// The address that it uses for Postgres.
    pub postgres: FaultProxy,
    /// The address that it uses for Docker.
    pub docker: FaultProxy,
    disk: Option<LoopDisk>,
    place: Place,
    /// The file of its disk.
    _backing: Option<Place>,
}

impl RiggedDaemon {
    /// A daemon between a cluster and a Docker engine, not started. `more` is further configuration, and
    /// `key` the file of the secret key that all daemons of a database share.
    #[must_use]
    pub fn new(
        cluster: &PrivateCluster,
        engine: &PrivateEngine,
        key: &Path,
        more: &str,
        seed: u64,
    ) -> Self {
        Self::make(cluster, engine, key, more, seed, None)
    }

    /// The same with all that it writes on a disk of its own of `size` bytes: its data folder, and what it
    /// prints.
    ///
    /// # Panics
    /// Without the right to mount.
    #[must_use]
    pub fn on_disk(
        cluster: &PrivateCluster,
        engine: &PrivateEngine,
        key: &Path,
        more: &str,
        seed: u64,
        size: u64,
    ) -> Self {
        Self::make(cluster, engine, key, more, seed, Some(size))
    }

    fn make(
        cluster: &PrivateCluster,
        engine: &PrivateEngine,
        key: &Path,
        more: &str,
        seed: u64,
        size: Option<u64>,
    ) -> Self {
        let place = Place::new();
        let backing = size.map(|_| Place::new());
        let disk = size
            .zip(backing.as_ref())
            .map(|(size, backing)| LoopDisk::new(&backing.join("disk"), place.path(), size));
        let postgres = FaultProxy::start(
            &Address::any_port(),
            cluster.tcp(),
            Protocol::Postgres,
            seed,
        );
        let docker = FaultProxy::start(
            &Address::Unix(place.join("docker.sock")),
            Address::Unix(engine.socket()),
            Protocol::Http,
            seed.rotate_left(32),
        );
        // A network of a repo's own would stay on this machine when its Docker engine is killed.
        let configuration = format!(
            "database_url = {:?}\nallow_file_urls = true\nsecret_key_file = {:?}\ndocker.host = {:?}\n\
             docker.network = \"bridge\"\ndatabase_wait = \"0s\"\n{more}\n",
            cluster.url_at(postgres.address()),
            key.display().to_string(),
            format!("unix://{}", place.join("docker.sock").display()),
        );
        Self {
            daemon: None,
            frozen: false,
            configuration,
            launch: Launch::default(),
            postgres,
            docker,
            disk,
            place,
            _backing: backing,
        }
    }

    /// Its disk, where it has one of its own.
    #[must_use]
    pub const fn disk(&self) -> Option<&LoopDisk> {
        self.disk.as_ref()
    }

    /// Starts it and waits until it answers. Nothing where it runs.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|said| panic!("{said}"));
    }

    /// The same for one that may well end at once.
    ///
    /// # Errors
    /// It ended before it answered: the end of its output.
    ///
    /// # Panics
    /// When it neither ends nor answers.
    pub fn try_start(&mut self) -> Result<(), String> {
        if self.daemon.is_none() {
            let started = Daemon::try_production(&self.place, &self.configuration, &self.launch)?;
            self.daemon = Some(started);
        }
        Ok(())
    }

    /// The environment of its next start.
    pub fn set_variables(&mut self, variables: Vec<(String, String)>) {
        self.launch.variables = variables;
    }

    /// The program of its next start: another build.
    pub fn set_program(&mut self, program: PathBuf) {
        self.launch.program = program;
    }

    /// Whether it has ended by itself since it was started; then it is down.
    pub fn has_died(&mut self) -> bool {
        let died = self.daemon.as_mut().is_some_and(Daemon::has_ended);
        if died {
            self.daemon = None;
            self.frozen = false;
        }
        died
    }

    /// Whether its process is there, frozen or not.
    pub fn is_alive(&mut self) -> bool {
        self.daemon
            .as_mut()
            .is_some_and(|daemon| !daemon.has_ended())
    }

    /// Whether it was started, and neither stopped nor killed.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.daemon.is_some()
    }

    /// The daemon as its users reach it.
    ///
    /// # Panics
    /// When it is down.
    #[must_use]
    pub fn get(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon is up")
    }

    /// Kills it with SIGKILL. Nothing where it is down.
    pub fn kill(&mut self) {
        self.frozen = false;
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Stops it as Ctrl-C does. Returns its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> Option<i32> {
        self.thaw();
        self.daemon.take().and_then(|mut daemon| daemon.stop())
    }

    /// Freezes it with SIGSTOP for as long as the test likes.
    pub fn freeze(&mut self) {
        if let Some(daemon) = &self.daemon {
            signal(daemon.pid(), "STOP");
            self.frozen = true;
        }
    }

    /// Lets it go on.
    pub fn thaw(&mut self) {
        if let (true, Some(daemon)) = (self.frozen, &self.daemon) {
            signal(daemon.pid(), "CONT");
        }
        self.frozen = false;
    }

    /// Kills it, lets `down` pass, and starts it again. Returns how long its start took.
    pub fn restart_after(&mut self, down: Duration) -> Duration {
        self.kill();
        std::thread::sleep(down);
        let begun = std::time::Instant::now();
        self.start();
        begun.elapsed()
    }

    /// The memory that it has in RAM, in bytes.
    ///
    /// # Panics
    /// When it is down.
    #[must_use]
    pub fn memory(&self) -> u64 {
        processes::resident(self.get().pid())
    }

    /// How many files, sockets and pipes it has open.
    ///
    /// # Panics
    /// When it is down.
    #[must_use]
    pub fn open_files(&self) -> usize {
        processes::open_files(self.get().pid())
    }

    /// All that it printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for RiggedDaemon {
    fn drop(&mut self) {
        // A frozen daemon does not react to SIGTERM; and a kill needs no wait.
        self.kill();
    }
}
