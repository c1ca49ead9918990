//! Reads the DAG files of a commit and matches them against a push, on threads of its own and in bounded time.
//!
//! A pushed file may be crafted to take long. It delays neither the tasks of the runtime nor, for more than moments,
//! other repos. A file that takes too long or too much memory gets a diagnostic that says so, like a file that panics
//! its parser, and is not read again until a commit changes it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;
use tracing::error;
use trainyard_core::dag::Dag;
use trainyard_core::measure::in_units;
use trainyard_core::name::DagName;
use trainyard_dagfile::{Entry, Outside};
use trainyard_forge::DagFileText;
use trainyard_store::{DagAtCommit, dag_bytes};

use crate::health::panics::panic_text;
use crate::loops::branch_failure::BranchFailure;

/// Files that are read at the same time.
const FILES_AT_ONCE: usize = 4;

/// How long one file may take on a processor: a thousand times what is usual.
const FILE: Duration = Duration::from_secs(1);

/// How long it may take by the wall clock, on a machine that is busy otherwise.
const FILE_AT_MOST: Duration = Duration::from_secs(10);

/// How long the files of one commit may take on a processor.
const COMMIT: Duration = Duration::from_secs(30);

/// How long a file waits for a thread.
const THREAD_WITHIN: Duration = Duration::from_secs(30);

/// How much memory the DAGs of one commit may take together, and room in the database: a thousand DAGs of 20 stages.
/// Aliases make a file of some KB a DAG of some MB.
const MEMORY: usize = 64 << 20;

/// How many bytes the diagnostics of one commit may have. Beyond that, files have one short diagnostic each.
const FAULTS: usize = 256 << 10;

/// A list of diagnostics that is kept in any case.
const SHORT: usize = 1 << 10;

/// How much processor time the push triggers of one commit may take: thousands of patterns against thousands of
/// paths. Checked between two files.
const TRIGGERS: Duration = Duration::from_secs(5);

/// A branch that moved, as push triggers see it.
#[derive(Debug)]
pub(crate) struct MovedBranch {
    pub(crate) branch: String,
    /// Whether it is the repo's followed branch.
    pub(crate) is_followed: bool,
    /// The paths that changed, where they are known.
    pub(crate) changed: Arc<Option<Vec<String>>>,
}

impl MovedBranch {
    fn starts(&self, dag: &Dag) -> bool {
        let followed = if self.is_followed { &self.branch } else { "" };
        let push = dag.declared().triggers.push.as_ref();
        push.is_some_and(|push| {
            push.matches(&self.branch, followed, self.changed.as_ref().as_deref())
        })
    }
}

/// Reads DAG files. Clones share the threads.
#[derive(Debug, Clone)]
pub struct DagReader {
    threads: Arc<Semaphore>,
}

impl Default for DagReader {
    fn default() -> Self {
        Self::new()
    }
}

impl DagReader {
    /// With all its threads free.
    #[must_use]
    pub fn new() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(FILES_AT_ONCE)),
        }
    }

    /// Reads the files of one commit.
    pub(crate) async fn read(
        &self,
        files: Vec<DagFileText>,
    ) -> Result<Vec<DagRead>, BranchFailure> {
        let mut spent = Spent::default();
        let mut room = FaultRoom::default();
        let mut read = Vec::with_capacity(files.len());
        for file in files {
            let mut file = self.read_one(file, &mut spent, read_file).await?;
            room.take(&mut file.file);
            read.push(file);
        }
        if let Some((path, why)) = &spent.first_unread {
            error!(
                path,
                why,
                files = spent.unread,
                "DAG files of a commit were not read"
            );
        }
        Ok(read)
    }

    /// The DAGs that a push starts.
    pub(crate) async fn started_by(
        &self,
        push: MovedBranch,
        files: Arc<Vec<DagAtCommit>>,
    ) -> Result<Vec<DagName>, BranchFailure> {
        self.started_within(TRIGGERS, push, files).await
    }

    async fn started_within(
        &self,
        limit: Duration,
        push: MovedBranch,
        files: Arc<Vec<DagAtCommit>>,
    ) -> Result<Vec<DagName>, BranchFailure> {
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let matching = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            let begun = processor_time();
            let mut started = Vec::new();
            for dag in files.iter().filter_map(|file| file.dag.as_ref().ok()) {
                if processor_time().saturating_sub(begun) >= limit {
                    return None;
                }
                if push.starts(dag) {
                    started.push(dag.name().clone());
                }
            }
            Some(started)
        });
        let matched = match matching.await {
            Ok(matched) => matched,
            Err(problem) if problem.is_panic() => resume_unwind(problem.into_panic()),
            Err(_) => return Err(BranchFailure::Passing("the daemon is stopping".to_owned())),
        };
        matched.ok_or_else(|| {
            BranchFailure::Costly(format!(
                "its push triggers take longer than {} s to match against the changed paths; make their patterns \
                 fewer or simpler",
                limit.as_secs()
            ))
        })
    }

    async fn read_one(
        &self,
        file: DagFileText,
        spent: &mut Spent,
        parse: fn(&str, Result<String, String>) -> DagRead,
    ) -> Result<DagRead, BranchFailure> {
        let path = file.path.clone();
        if spent.time >= COMMIT {
            let why = format!(
                "the DAG files before this one took {} s to read; this one is not read",
                COMMIT.as_secs()
            );
            return Ok(spent.unread(path, why));
        }
        // The thread of an abandoned file stays busy until the parser returns.
        let threads = Arc::clone(&self.threads).acquire_owned();
        let Ok(Ok(thread)) = tokio::time::timeout(THREAD_WITHIN, threads).await else {
            return Err(BranchFailure::Passing(format!(
                "no thread was free within {} s to read its DAG files",
                THREAD_WITHIN.as_secs()
            )));
        };
        let reading = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            let before = processor_time();
            let read = parse(&file.path, file.text);
            let bytes = read.bytes();
            (read, bytes, processor_time().saturating_sub(before))
        });
        let (read, bytes, took) = match tokio::time::timeout(FILE_AT_MOST, reading).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => return Err(BranchFailure::Passing("the daemon is stopping".to_owned())),
            Err(_) => {
                spent.time += FILE;
                return Ok(spent.unread(path, too_long()));
            }
        };
        spent.time += took;
        if took > FILE {
            return Ok(spent.unread(path, too_long()));
        }
        if spent.memory + bytes > MEMORY {
            let why = format!(
                "its DAG takes {}, and the DAGs of one commit may take {} together: the length of all texts, with \
                 aliases and the variables of the DAG once for each stage; make its stages or their texts fewer",
                in_units(bytes as u64),
                in_units(MEMORY as u64)
            );
            return Ok(spent.unread(path, why));
        }
        spent.memory += bytes;
        Ok(read)
    }
}

/// What the DAG files of one commit have taken.
#[derive(Debug, Default)]
struct Spent {
    time: Duration,
    memory: usize,
    unread: usize,
    first_unread: Option<(String, String)>,
}

impl Spent {
    fn unread(&mut self, path: String, why: String) -> DagRead {
        self.unread += 1;
        let read = DagRead {
            file: DagAtCommit {
                source: String::new(),
                dag: Err(unreadable(&path, &why)),
                path: path.clone(),
            },
            outside: Outside::default(),
        };
        self.first_unread.get_or_insert((path, why));
        read
    }
}

fn too_long() -> String {
    format!("it takes longer than {} s to read", FILE.as_secs())
}

/// The room for the diagnostics of one commit.
#[derive(Debug)]
pub(crate) struct FaultRoom(usize);

impl Default for FaultRoom {
    fn default() -> Self {
        Self(FAULTS)
    }
}

impl FaultRoom {
    /// Shortens the diagnostics of a file if there is no room for them.
    pub(crate) fn take(&mut self, file: &mut DagAtCommit) {
        let Err(faults) = &file.dag else { return };
        let bytes = faults.to_string().len();
        if let Some(left) = self.0.checked_sub(bytes) {
            self.0 = left;
        } else if bytes > SHORT {
            let count = faults.as_array().map_or(1, Vec::len) as u64;
            let why = format!(
                "its faults ({count}) are not listed, as the other DAG files of this commit have too many; `trainyard \
                 validate` lists them"
            );
            file.dag = Err(unreadable(&file.path, &why));
        }
    }
}

/// The processor time of this thread; other threads do not count.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A DAG file of a commit, with its references to the commit's files and to pools.
#[derive(Debug)]
pub(crate) struct DagRead {
    pub(crate) file: DagAtCommit,
    pub(crate) outside: Outside,
}

impl DagRead {
    /// About how many bytes it takes, apart from its text and its faults.
    fn bytes(&self) -> usize {
        self.file.dag.as_ref().map_or(0, dag_bytes) + self.outside.bytes()
    }

    /// Checks a file against its commit: a reference to a missing path is an error, and so is the name of a DAG that
    /// an earlier file defines. `names` has the names so far, and their files.
    pub(crate) fn hold_against(
        self,
        entry: impl Fn(&str) -> Entry,
        names: &mut BTreeMap<DagName, String>,
    ) -> DagAtCommit {
        let mut file = self.file;
        let mut faults = self.outside.faults_in_repo(&file.source, entry);
        if let (Ok(dag), true) = (&file.dag, faults.is_empty()) {
            match names.entry(dag.name().clone()) {
                MapEntry::Vacant(free) => {
                    free.insert(file.path.clone());
                }
                MapEntry::Occupied(taken) => {
                    let taken = (taken.key(), taken.get());
                    faults = self.outside.name_taken(&file.source, taken.0, taken.1);
                }
            }
        }
        if faults.is_empty() {
            return file;
        }
        let mut all = match file.dag {
            Ok(_) => Vec::new(),
            Err(serde_json::Value::Array(faults)) => faults,
            Err(other) => vec![other],
        };
        if let serde_json::Value::Array(more) = trainyard_dagfile::to_json(&file.path, &faults) {
            all.extend(more);
        }
        file.dag = Err(all.into());
        file
    }
}

/// Parses one DAG file of a commit.
fn read_file(path: &str, text: Result<String, String>) -> DagRead {
    let (source, dag, outside) = match text {
        Ok(text) => {
            let parsed = catch_unwind(AssertUnwindSafe(|| {
                let parsed = trainyard_dagfile::parse(path, &text);
                let faults = trainyard_dagfile::to_json(path, &parsed.diagnostics);
                (parsed.dag.ok_or(faults), parsed.outside)
            }))
            // The panic is a bug in Trainyard; the other files go on.
            .unwrap_or_else(|panic| {
                let why = format!(
                    "reading it panicked, which is a bug: {}",
                    panic_text(&*panic)
                );
                error!(path, "{why}");
                (Err(unreadable(path, &why)), Outside::default())
            });
            (text, parsed.0, parsed.1)
        }
        Err(why) => (
            String::new(),
            Err(unreadable(path, &why)),
            Outside::default(),
        ),
    };
    DagRead {
        file: DagAtCommit {
            path: path.to_owned(),
            source,
            dag,
        },
        outside,
    }
}

fn unreadable(path: &str, why: &str) -> serde_json::Value {
    trainyard_dagfile::to_json(path, &trainyard_dagfile::unreadable(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> DagFileText {
        DagFileText {
            path: path.to_owned(),
            text: Ok("stages: {a: {image: \"x:1\", run: \"true\"}}".to_owned()),
        }
    }

    fn spin(path: &str, _: Result<String, String>) -> DagRead {
        let begun = processor_time();
        while processor_time().saturating_sub(begun) < FILE + Duration::from_millis(100) {}
        read_file(path, Err("never returned".to_owned()))
    }

    #[tokio::test]
    async fn a_file_that_takes_too_long_has_a_fault_that_says_so() {
        let reader = DagReader::new();
        let mut spent = Spent::default();
        let read = reader
            .read_one(file("dags/slow.yaml"), &mut spent, spin)
            .await
            .unwrap();
        let fault = read.file.dag.unwrap_err().to_string();
        assert!(fault.contains("longer than 1 s"), "{fault}");
        let read = reader.read(vec![file("dags/good.yaml")]).await.unwrap();
        assert!(read[0].file.dag.is_ok(), "the next file is read");
    }

    #[test]
    fn a_file_that_asks_for_what_its_commit_lacks_has_faults_besides_its_own() {
        let read = |image: &str| {
            let text = format!("stages: {{a: {{build: image}}, b: {{image: {image}}}}}");
            read_file("dags/a.yaml", Ok(text))
        };
        let is_there = |path: &str| match path {
            "image" => Entry::Folder,
            _ => Entry::File,
        };
        let held = |read: DagRead, entry: fn(&str) -> Entry| {
            read.hold_against(entry, &mut BTreeMap::new())
        };
        assert!(held(read("x"), is_there).dag.is_ok());
        assert!(held(read("x"), |_| Entry::Unknown).dag.is_ok());
        let faults = |image| {
            let faults = held(read(image), |_| Entry::Missing).dag.unwrap_err();
            faults.as_array().unwrap().clone()
        };
        let message = faults("x")[0]["message"].to_string();
        assert!(message.contains("no folder `image`"), "{message}");
        assert_eq!(faults("X").len(), 2, "its own fault is kept");
    }

    #[tokio::test]
    async fn the_triggers_of_a_file_whose_name_is_taken_start_nothing() {
        let stages = "stages: {a: {image: 'x:1', run: 'true'}}";
        let by_hand = format!("name: both\n{stages}");
        let pushed = format!("name: both\ntriggers: {{push: {{}}}}\n{stages}");
        let mut names = BTreeMap::new();
        let files = [("dags/one.yaml", by_hand), ("dags/two.yaml", pushed)];
        let files = files.map(|(path, text)| {
            read_file(path, Ok(text)).hold_against(|_| Entry::Unknown, &mut names)
        });
        assert!(files[0].dag.is_ok(), "the first one counts");
        let fault = files[1].dag.as_ref().unwrap_err()[0].clone();
        assert_eq!(
            (&fault["message"], &fault["line"], &fault["column"]),
            (
                &"dags/one.yaml defines a DAG named `both` already".into(),
                &1.into(),
                &7.into()
            )
        );
        let files = Arc::new(files.to_vec());
        for is_followed in [true, false] {
            let push = MovedBranch {
                branch: "main".to_owned(),
                is_followed,
                changed: Arc::new(None),
            };
            let reader = DagReader::new();
            let started = reader.started_by(push, Arc::clone(&files)).await;
            assert_eq!(started.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn class_19_push_triggers_that_take_too_long_are_an_error_of_the_branch() {
        let text =
            "triggers: {push: {paths: ['src/**']}}\nstages: {a: {image: 'x:1', run: 'true'}}";
        let files = || Arc::new(vec![read_file("dags/a.yaml", Ok(text.to_owned())).file]);
        let push = |changed: &str| MovedBranch {
            branch: "main".to_owned(),
            is_followed: true,
            changed: Arc::new(Some(vec![changed.to_owned()])),
        };
        let reader = DagReader::new();
        let started = reader.started_by(push("src/a"), files()).await.unwrap();
        assert_eq!(started[0].as_str(), "a");
        let started = reader.started_by(push("docs/a"), files()).await.unwrap();
        assert_eq!(started, []);
        let late = reader
            .started_within(Duration::ZERO, push("src/a"), files())
            .await;
        assert!(matches!(late, Err(BranchFailure::Costly(_))), "{late:?}");
    }

    #[tokio::test]
    async fn class_19_files_after_the_time_of_a_commit_are_not_read() {
        let mut spent = Spent {
            time: COMMIT,
            ..Spent::default()
        };
        let reader = DagReader::new();
        let read = reader
            .read_one(file("dags/late.yaml"), &mut spent, read_file)
            .await
            .unwrap();
        let fault = read.file.dag.unwrap_err().to_string();
        assert!(fault.contains("before this one took 30 s"), "{fault}");
    }

    #[tokio::test]
    async fn class_19_dags_that_take_too_much_memory_together_are_faults_of_their_files() {
        let stages: String = (0..100).map(|n| format!("  s{n}: *a\n")).collect();
        let text = format!(
            "env: {{A: {}}}\nstages:\n  a: &a {{image: 'x:1', run: 'true'}}\n{stages}",
            "e".repeat(4_000)
        );
        let large = || DagFileText {
            path: "dags/large.yaml".to_owned(),
            text: Ok(text.clone()),
        };
        let reader = DagReader::new();
        let mut spent = Spent::default();
        let mut read = async |file| reader.read_one(file, &mut spent, read_file).await.unwrap();
        assert!(read(large()).await.file.dag.is_ok());
        assert!(spent.memory > 101 * 4_000, "each stage has the variable");
        spent.memory = MEMORY - 100_000;
        let mut read = async |file| reader.read_one(file, &mut spent, read_file).await.unwrap();
        let fault = read(large()).await.file.dag.unwrap_err().to_string();
        assert!(fault.contains("may take 64 MiB together"), "{fault}");
        assert!(
            read(file("dags/small.yaml")).await.file.dag.is_ok(),
            "there is room for it"
        );
    }

    #[tokio::test]
    async fn class_19_the_faults_of_a_commit_are_bounded_over_all_its_files() {
        let keys: String = (0..200).map(|n| format!("wrong{n}: 1\n")).collect();
        let files = (0..30)
            .map(|n| DagFileText {
                path: format!("dags/d{n:02}.yaml"),
                text: Ok(keys.clone()),
            })
            .collect();
        let read = DagReader::new().read(files).await.unwrap();
        let faults = |n: usize| read[n].file.dag.as_ref().unwrap_err();
        assert_eq!(faults(0).as_array().unwrap().len(), 101);
        assert!(
            faults(29).to_string().contains("its faults (101)"),
            "{}",
            faults(29)
        );
        let bytes: usize = (0..30).map(|n| faults(n).to_string().len()).sum();
        assert!(bytes <= FAULTS + 30 * SHORT, "{bytes}");
    }
}
