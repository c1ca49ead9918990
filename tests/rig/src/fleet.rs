//! A whole installation to be broken: a private Postgres and a private Docker engine, several daemons on them, each
//! behind proxies of its own, a remote, and a witness.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use trainyard_store::{Store, StoreOptions};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::wait::until;

use crate::cluster::PrivateCluster;
use crate::daemon::RiggedDaemon;
use crate::disk::{Disks, LoopDisk};
use crate::engine::{EngineOptions, PrivateEngine, Seen};
use crate::panics::caught;
use crate::programme::within;
use crate::witness::Witness;

/// The name of the repo that daemons follow.
pub const REPO: &str = "model";

/// The secret that signs its webhooks.
pub const WEBHOOK_SECRET: &str = "a-webhook-secret-of-32-characters";

/// When the container of an attempt that ended is gone, and noted to be, at the latest.
const REMOVED: Duration = Duration::from_secs(30);

/// How a fleet is set up.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Of all that is random.
    pub seed: u64,
    pub daemons: usize,
    /// How many stages run on each at the same time.
    pub parallelism: u32,
    pub engine: EngineOptions,
    /// How many connections Postgres takes.
    pub max_connections: u32,
    /// Which parts have disks of their own.
    pub disks: Disks,
    /// Further configuration of all daemons, as TOML.
    pub more: String,
}

impl FleetOptions {
    /// One daemon that runs 20 stages at a time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            daemons: 1,
            parallelism: 20,
            engine: EngineOptions::default(),
            max_connections: 100,
            disks: Disks::default(),
            more: String::new(),
        }
    }
}

/// An installation. The first field is dropped first: daemons before the parts that they use.
#[derive(Debug)]
pub struct Fleet {
    pub daemons: Vec<RiggedDaemon>,
    /// The reports of the stages themselves.
    pub witness: Witness,
    /// Docker that all daemons use.
    pub engine: PrivateEngine,
    /// The Postgres that all daemons use.
    pub cluster: PrivateCluster,
    /// The repo that all daemons follow, as [`REPO`].
    pub remote: Remote,
    /// The disk of artifacts, where they have one of their own.
    pub artifacts_disk: Option<LoopDisk>,
    place: Place,
}

impl Fleet {
    /// Starts everything, with a repo of these DAG files that daemons know.
    ///
    /// # Panics
    /// When a part does not start.
    #[must_use]
    pub fn start(
        options: &FleetOptions,
        dags: impl FnOnce(&Witness) -> Vec<(String, String)>,
    ) -> Self {
        let place = Place::new();
        let engine = PrivateEngine::start(options.engine);
        let disks = options.disks;
        let cluster = match disks.postgres {
            Some(size) => PrivateCluster::on_disk(&place, options.max_connections, size),
            None => PrivateCluster::start(&place, options.max_connections),
        };
        let artifacts = place.join("artifacts");
        let artifacts_disk = disks
            .artifacts
            .map(|size| LoopDisk::new(&place.join("artifacts.disk"), &artifacts, size));
        let witness = Witness::new(&place, engine.gateway());
        let remote = Remote::new(&place, REPO);
        let files: Vec<(String, String)> = dags(&witness);
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        remote.push("main", &files);
        let key = place.join("secret.key");
        let more = format!(
            "parallelism = {}\nartifacts_dir = {:?}\n{}",
            options.parallelism,
            artifacts.display().to_string(),
            options.more
        );
        let daemons = (0..options.daemons)
            .map(|number| {
                let seed = options.seed.wrapping_add(number as u64);
                let mut daemon = match disks.daemons {
                    Some(size) => RiggedDaemon::on_disk(&cluster, &engine, &key, &more, seed, size),
                    None => RiggedDaemon::new(&cluster, &engine, &key, &more, seed),
                };
                daemon.start();
                daemon
            })
            .collect();
        let fleet = Self {
            daemons,
            witness,
            engine,
            cluster,
            remote,
            artifacts_disk,
            place,
        };
        let url = fleet.remote.url();
        let added = ["repo", "add", REPO, &url, "--webhook-secret", "-"];
        let _ = fleet
            .first()
            .get()
            .cli_with_input(&added, WEBHOOK_SECRET)
            .good();
        let _ = fleet.first().get().cli(&["repo", "sync", REPO]).good();
        fleet
    }

    /// A fleet that knows one DAG, `dag`, of `count` stages side by side, each of which does `work`
    /// between what it says to the witness.
    #[must_use]
    pub fn with_wide_dag(
        options: &FleetOptions,
        count: usize,
        work: impl FnOnce(&Witness) -> String,
    ) -> Self {
        Self::start(options, |witness| {
            let script = witness.script(&work(witness));
            let mut text = "stages:\n".to_owned();
            for number in 1..=count {
                text.push_str(&format!(
                    "  s{number}: {{image: \"{IMAGE}\", checkout: false, run: '{script}'}}\n"
                ));
            }
            vec![("dags/dag.yaml".to_owned(), text)]
        })
    }

    /// The folder of artifacts.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.place.join("artifacts")
    }

    #[must_use]
    pub fn first(&self) -> &RiggedDaemon {
        &self.daemons[0]
    }

    /// The first daemon, to be killed.
    pub fn first_mut(&mut self) -> &mut RiggedDaemon {
        &mut self.daemons[0]
    }

    /// Starts the DAG by hand, at the first daemon. Returns the run's number.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    #[must_use]
    pub fn trigger(&self) -> i64 {
        let run = self.first().get().json(&["dag", "trigger", "dag"]);
        run["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("no run in {run}"))
    }

    /// A run as JSON, once it has ended.
    ///
    /// # Panics
    /// When it does not end within `bound`.
    #[track_caller]
    #[must_use]
    pub fn finished(&self, run: i64, bound: Duration) -> Value {
        until(&format!("the end of run {run}"), bound, || {
            let answer =
                self.first()
                    .get()
                    .cli(&["run", "show", &run.to_string(), "--output", "json"]);
            // A daemon that waits for its database says so; it is asked again.
            let shown: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
            if shown["finished_at"].is_string() {
                Ok(shown)
            } else {
                Err(format!("{answer:?}"))
            }
        })
    }

    /// Every attempt there is, as the witness calls them, with its outcome where it has one.
    #[must_use]
    pub fn attempts(&self) -> BTreeMap<String, String> {
        let rows = self.cluster.sql(
            "select a.run || '.' || s.name || '.' || a.number || '|' || coalesce(a.outcome, '')
             from attempt a join stage_run s on s.run = a.run and s.position = a.stage",
        );
        rows.lines()
            .filter_map(|row| row.split_once('|'))
            .map(|(attempt, outcome)| (attempt.to_owned(), outcome.to_owned()))
            .collect()
    }

    /// Containers on Docker that should not be there: of attempts that ended or are not known,
    /// once nothing runs. The daemon is given `bound` to clean up.
    #[must_use]
    pub fn orphans(&self, bound: Duration) -> Vec<Seen> {
        let instance = self.cluster.sql("select id from instance");
        left_after(
            bound,
            || self.engine.containers_of(&instance),
            Vec::is_empty,
        )
    }

    /// Attempts that ended and of which the database does not know that their container is gone, though
    /// the daemon was given `bound` to note it.
    #[must_use]
    pub fn unnoted(&self, bound: Duration) -> String {
        let unnoted = "select coalesce(string_agg(id::text, ' '), '') from attempt
             where state = 'finished' and not removed and executor is not null";
        left_after(bound, || self.cluster.sql(unnoted), String::is_empty)
    }

    /// Everything that is wrong once all runs have ended: what the invariants of the database, the
    /// witness and Docker say. Empty is good.
    ///
    /// # Panics
    /// When the database or Docker does not answer.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .orphans(within(REMOVED))
            .into_iter()
            .map(|seen| format!("orphan: {seen:?}"))
            .collect();
        let unnoted = self.unnoted(within(REMOVED));
        if !unnoted.is_empty() {
            found.push(format!("removed, and not noted as removed: {unnoted}"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Store::connect(&StoreOptions::new(self.cluster.url()))
                .await
                .unwrap();
            let violated = store.check_invariants().await.unwrap();
            found.extend(violated.into_iter().map(|violation| violation.to_string()));
            store.close().await;
        });
        found.extend(
            self.witness
                .duplicates()
                .into_iter()
                .map(|attempt| format!("ran more than once: {attempt}")),
        );
        let attempts = self.attempts();
        let succeeded = attempts
            .iter()
            .filter(|(_, outcome)| *outcome == "succeeded")
            .map(|(attempt, _)| attempt.as_str());
        found.extend(
            self.witness
                .missing(succeeded)
                .into_iter()
                .map(|attempt| format!("succeeded without having run to its end: {attempt}")),
        );
        found
    }

    /// The evidence of a red trial: records of the proxies, logs, the witness' journal, the database.
    #[must_use]
    pub fn testimony(&self) -> Vec<(String, String)> {
        let mut kept = vec![
            ("dockerd.log".to_owned(), self.engine.log()),
            ("postgres.log".to_owned(), self.cluster.log()),
            (
                "witness".to_owned(),
                std::fs::read_to_string(self.witness.journal()).unwrap_or_default(),
            ),
        ];
        for (number, daemon) in self.daemons.iter().enumerate() {
            kept.push((format!("daemon-{number}.log"), daemon.log()));
            kept.push((format!("proxy-postgres-{number}"), daemon.postgres.record()));
            kept.push((format!("proxy-docker-{number}"), daemon.docker.record()));
        }
        // Either may be down, by itself, or still be frozen and not answer.
        kept.push(answer("dump.sql", || {
            if self.cluster.is_up() {
                self.cluster.thaw();
            }
            self.cluster.dump()
        }));
        kept.push(answer("containers", || {
            self.engine.thaw();
            self.engine.docker(&["ps", "-a", "--no-trunc"])
        }));
        kept
    }
}

/// What is left of something that is to go, once it is gone or `bound` has passed.
fn left_after<T>(bound: Duration, look: impl Fn() -> T, is_gone: impl Fn(&T) -> bool) -> T {
    let begun = std::time::Instant::now();
    until("the end of what is left", Duration::MAX, || {
        let left = look();
        if is_gone(&left) || begun.elapsed() > bound {
            Ok(left)
        } else {
            Err(String::new())
        }
    })
}

/// What is kept of a part under this name: what it answers, or why it does not.
fn answer(name: &str, asked: impl FnOnce() -> String) -> (String, String) {
    let reported = caught(asked).unwrap_or_else(|said| format!("it could not be asked: {said}\n"));
    (name.to_owned(), reported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_down_says_so_in_its_own_file() {
        let (name, reported) = answer("dump.sql", || panic!("no such file"));
        assert_eq!(name, "dump.sql");
        assert_eq!(reported, "it could not be asked: no such file\n");
        let (_, reported) = answer("containers", || "one".to_owned());
        assert_eq!(reported, "one");
    }
}
