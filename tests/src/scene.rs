//! The usual scene: a remote with some files, and a daemon that follows it as `model`.
//!
//! DAG files of more than a few lines are in `scenarios/dags`. They are files as users write them; where one names
//! `http://witness`, the scene has a [`Witness`], whose address is pushed instead.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use trainyard_cluster::{Cluster, Database};

use crate::daemon::Daemon;
use crate::place::Place;
use crate::remote::Remote;
use crate::small_disk::SmallDisk;
use crate::webhook::Delivery;
use crate::witness::Witness;

/// How long a run of a few stages may take on a busy machine.
pub const BOUND: Duration = Duration::from_secs(600);

/// The secret of the repo's webhooks, where it has one.
pub const WEBHOOK_SECRET: &str = "a-webhook-secret-of-32-characters";

/// Stands for the witness' address in files.
const WITNESS: &str = "http://witness";

/// Which daemon follows the remote.
#[derive(Debug, Clone)]
enum Start {
    /// `trainyard dev` with these arguments, on a database that tests share a Postgres for.
    Dev(Vec<String>),
    /// `trainyard dev` with a Postgres of its own.
    Alone,
    /// `trainyard daemon` with this configuration.
    Production(String),
}

/// What a scene is made of.
#[derive(Debug)]
pub struct Setting {
    files: Vec<(String, String)>,
    start: Start,
    own_cluster: bool,
    webhooks: bool,
    disks: Vec<(&'static str, u32)>,
}

impl Setting {
    /// With a DAG `dag`: the file of this name in `scenarios/dags`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn dag(self, name: &str) -> Self {
        let text = dag_file(name);
        self.file("dags/dag.yaml", &text)
    }

    /// With a file of branch `main`.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }

    /// The daemon is `trainyard dev` with these arguments.
    #[must_use]
    pub fn options(mut self, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned());
        self.start = Start::Dev(options.collect());
        self
    }

    /// The daemon is `trainyard dev` with a Postgres of its own, as people start it.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.start = Start::Alone;
        self
    }

    /// The daemon is `trainyard daemon` with more configuration, as TOML. `$PLACE` is the folder of the scene.
    #[must_use]
    pub fn configuration(mut self, toml: &str) -> Self {
        self.start = Start::Production(toml.to_owned());
        self
    }

    /// The database is in a cluster of the scene's own, [`Scene::cluster`].
    #[must_use]
    pub fn own_cluster(mut self) -> Self {
        self.own_cluster = true;
        if matches!(self.start, Start::Dev(_)) {
            self.start = Start::Production(String::new());
        }
        self
    }

    /// A folder of the scene is a disk of so many MiB of its own: `data` is the daemon's data folder.
    #[must_use]
    pub fn disk(mut self, folder: &'static str, mebibytes: u32) -> Self {
        self.disks.push((folder, mebibytes));
        self
    }

    /// The repo has [`WEBHOOK_SECRET`].
    #[must_use]
    pub fn webhooks(mut self) -> Self {
        self.webhooks = true;
        self
    }

    /// Starts all of it, and waits until the daemon knows the files.
    #[must_use]
    pub fn begin(self) -> Scene {
        let webhooks = self.webhooks;
        let scene = self.begin_without_repo();
        let url = scene.remote.url();
        let mut add = vec!["repo", "add", "model", &url];
        if webhooks {
            add.extend(["--webhook-secret", "-"]);
        }
        let _ = scene.daemon.cli_with_input(&add, WEBHOOK_SECRET).good();
        scene.sync();
        scene
    }

    /// Starts all of it. The daemon does not follow the remote.
    #[must_use]
    pub fn begin_without_repo(self) -> Scene {
        let place = Place::new();
        let disks = self.disks.iter();
        let disks = disks
            .map(|(folder, size)| SmallDisk::mount(&place.join(folder), *size))
            .collect();
        let cluster = self
            .own_cluster
            .then(|| Cluster::start(&place.join("cluster")));
        let database = match &cluster {
            Some(cluster) => cluster.database().clone(),
            None => place.database(),
        };
        let remote = Remote::new(&place, "model");
        let witness = OnceCell::new();
        push(&remote, &witness, "main", &borrowed(&self.files));
        let daemon = self.start.daemon(&place, &database);
        Scene {
            daemon,
            remote,
            witness,
            start: self.start,
            database,
            cluster,
            disks,
            place,
        }
    }
}

impl Start {
    fn daemon(&self, place: &Place, database: &Database) -> Daemon {
        self.daemon_at(place, place, database)
    }

    /// A daemon below `place`, in the scene below `scene`.
    fn daemon_at(&self, place: &Place, scene: &Place, database: &Database) -> Daemon {
        match self {
            Self::Dev(options) => {
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                Daemon::dev(place, &options)
            }
            Self::Alone => Daemon::dev_alone(place),
            Self::Production(toml) => {
                let (url, folder) = (database.url(), scene.path().display().to_string());
                let toml = toml.replace("$PLACE", &folder);
                let toml = format!("database_url = {url:?}\nallow_file_urls = true\n{toml}");
                Daemon::production(place, &toml)
            }
        }
    }
}

/// A daemon and the remote that it follows.
#[derive(Debug)]
pub struct Scene {
    /// The daemon; dropped before its folder.
    pub daemon: Daemon,
    pub remote: Remote,
    witness: OnceCell<Witness>,
    start: Start,
    /// The daemon's database, unless it has a Postgres of its own.
    pub database: Database,
    cluster: Option<Cluster>,
    pub disks: Vec<SmallDisk>,
    pub place: Place,
}

impl Scene {
    /// A scene to be described.
    #[must_use]
    pub const fn plan() -> Setting {
        Setting {
            files: Vec::new(),
            start: Start::Dev(Vec::new()),
            own_cluster: false,
            webhooks: false,
            disks: Vec::new(),
        }
    }

    /// A daemon that knows these files of branch `main`.
    #[must_use]
    pub fn with(files: &[(&str, &str)]) -> Self {
        let plan = |plan: Setting, (path, text): &(&str, &str)| plan.file(path, text);
        files.iter().fold(Self::plan(), plan).begin()
    }

    /// A daemon that knows one DAG named `dag`.
    #[must_use]
    pub fn with_dag(text: &str) -> Self {
        Self::with(&[("dags/dag.yaml", text)])
    }

    /// A daemon that knows one DAG named `dag`: the file of this name in `scenarios/dags`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self::plan().dag(name).begin()
    }

    /// What stages report to at `http://witness`.
    ///
    /// # Panics
    /// When no file names it.
    #[must_use]
    pub fn witness(&self) -> &Witness {
        self.witness.get().expect("a file that names the witness")
    }

    /// The cluster of the scene's own.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("a cluster of its own")
    }

    /// Pushes files to `branch`. Returns the commit's full hash.
    pub fn push(&self, branch: &str, files: &[(&str, &str)]) -> String {
        push(&self.remote, &self.witness, branch, files)
    }

    /// Pushes files to `main` and waits until the daemon knows them. Returns the commit's full hash.
    pub fn update(&self, files: &[(&str, &str)]) -> String {
        let commit = self.push("main", files);
        self.sync();
        commit
    }

    /// Waits until the daemon knows the remote as it is.
    #[track_caller]
    pub fn sync(&self) {
        let _ = self.daemon.cli(&["repo", "sync", "model"]).good();
    }

    /// A signed delivery of a push to `main`.
    #[must_use]
    pub fn delivery(&self, id: &str, before: &str, after: &str) -> Delivery {
        Delivery::of_push(WEBHOOK_SECRET, id, "main", before, after)
    }

    /// Starts a DAG by hand. Returns the run's number.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn trigger(&self, dag: &str, more: &[&str]) -> i64 {
        self.started(&[&["dag", "trigger", dag], more].concat())
    }

    /// Retries a run. Returns the new one's number.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn retry(&self, run: i64, more: &[&str]) -> i64 {
        self.started(&[&["run", "retry", &run.to_string()], more].concat())
    }

    #[track_caller]
    fn started(&self, arguments: &[&str]) -> i64 {
        let run = self.daemon.json(arguments);
        run["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("no run in {run}"))
    }

    /// A run once it has ended.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    #[must_use]
    pub fn finished(&self, run: i64) -> Value {
        self.daemon.finished_run(run, BOUND)
    }

    /// Starts a DAG by hand and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&self, dag: &str, more: &[&str]) -> Value {
        self.finished(self.trigger(dag, more))
    }

    /// The first run, as soon as there is one.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    #[must_use]
    pub fn first_run(&self) -> i64 {
        self.daemon.runs(1, BOUND)[0]
    }

    /// The whole log of a run.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    #[must_use]
    pub fn log(&self, run: &Value) -> String {
        self.daemon
            .cli(&["run", "logs", &run["id"].to_string()])
            .good()
            .stdout
    }

    /// One more daemon with the same configuration, whose data folder is below `place`.
    #[must_use]
    pub fn another_daemon(&self, place: &Place) -> Daemon {
        self.start.daemon_at(place, &self.place, &self.database)
    }

    /// Kills the daemon and starts the next one in its place.
    pub fn restart(&mut self) {
        self.restart_after(|_| {});
    }

    /// The same, with something that happens while no daemon runs.
    pub fn restart_after(&mut self, meanwhile: impl FnOnce(&Self)) {
        self.daemon.kill();
        meanwhile(self);
        self.daemon = self.start.daemon(&self.place, &self.database);
    }

    /// Stops the daemon as Ctrl-C does, and starts the next one in its place. Returns the exit code of the first.
    pub fn restart_in_order(&mut self) -> Option<i32> {
        let code = self.daemon.stop();
        self.daemon = self.start.daemon(&self.place, &self.database);
        code
    }
}

/// The text of a file in `scenarios/dags`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn dag_file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/dags");
    let file = folder.join(format!("{name}.yaml"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A DAG of one stage that runs `echo` with these words, with these triggers.
#[must_use]
pub fn saying(triggers: &str, words: &str) -> String {
    format!("triggers: {{{triggers}}}\nstages: {{say: {{image: alpine:3, run: echo {words}}}}}\n")
}

fn push(
    remote: &Remote,
    witness: &OnceCell<Witness>,
    branch: &str,
    files: &[(&str, &str)],
) -> String {
    let files: Vec<(String, String)> = files
        .iter()
        .map(|(path, text)| {
            let text = if text.contains(WITNESS) {
                let witness = witness.get_or_init(Witness::new);
                text.replace(WITNESS, witness.address())
            } else {
                (*text).to_owned()
            };
            ((*path).to_owned(), text)
        })
        .collect();
    remote.push(branch, &borrowed(&files))
}

fn borrowed(files: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = files.iter();
    pairs
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect()
}
