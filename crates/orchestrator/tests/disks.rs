//! Disks that do not answer pause new stages, are reported, and cost one thread each.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use trainyard_core::id::DaemonId;
use trainyard_orchestrator::health::disks::Disks;
use trainyard_orchestrator::health::space::{Disk, DiskRole, DiskSpace, Floor, SpaceReader};
use trainyard_store::DaemonHealth;
use uuid::Uuid;

/// How long an expected change may take on a busy machine.
const BOUND: Duration = Duration::from_secs(300);

const ARTIFACTS: &str = "/nowhere/artifacts";
const DATA: &str = "/nowhere/data";

/// How a disk answers a read.
#[derive(Debug, Clone, Copy)]
enum Script {
    /// It has this many of a hundred bytes free.
    Free(u64),
    /// It fails.
    Fails(ErrorKind),
    /// It does not answer until its script changes.
    Hangs,
}

/// Disks that follow their scripts.
#[derive(Debug, Default)]
struct Scripted {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    scripts: BTreeMap<PathBuf, Script>,
    begun: usize,
    under_way: usize,
    under_way_most: usize,
}

impl Scripted {
    fn set(&self, path: &str, script: Script) {
        let mut known = self.known.lock().unwrap();
        known.scripts.insert(path.into(), script);
        self.changed.notify_all();
    }

    fn read_space(&self, path: &Path) -> io::Result<DiskSpace> {
        let mut known = self.known.lock().unwrap();
        known.begun += 1;
        known.under_way += 1;
        known.under_way_most = known.under_way_most.max(known.under_way);
        self.changed.notify_all();
        let hangs = |known: &mut Known| matches!(known.scripts[path], Script::Hangs);
        let mut known = self.changed.wait_while(known, hangs).unwrap();
        known.under_way -= 1;
        self.changed.notify_all();
        match known.scripts[path] {
            Script::Free(free) => Ok(DiskSpace { free, total: 100 }),
            Script::Fails(kind) => Err(kind.into()),
            Script::Hangs => unreachable!("it was waited for"),
        }
    }

    /// Waits until this many reads are in progress.
    fn wait_for(&self, under_way: usize) {
        let known = self.known.lock().unwrap();
        let others = |known: &mut Known| known.under_way != under_way;
        let (_known, waited) = self
            .changed
            .wait_timeout_while(known, BOUND, others)
            .unwrap();
        assert!(!waited.timed_out(), "{under_way} looks under way");
    }

    fn begun(&self) -> usize {
        self.known.lock().unwrap().begun
    }
}

struct GuardedDisks {
    scripted: Arc<Scripted>,
    disks: Disks,
    health: DaemonHealth,
}

impl GuardedDisks {
    /// A guard over the disk of artifacts, which is healthy, and over that of the data folder if it is given.
    fn new(data: Option<Script>) -> Self {
        let scripted = Arc::new(Scripted::default());
        scripted.set(ARTIFACTS, Script::Free(50));
        let mut places = vec![Disk {
            role: DiskRole::Artifacts,
            path: ARTIFACTS.into(),
        }];
        if let Some(script) = data {
            scripted.set(DATA, script);
            places.push(Disk {
                role: DiskRole::Data,
                path: DATA.into(),
            });
        }
        let eyes = Arc::clone(&scripted);
        let reader = SpaceReader::new(move |path| eyes.read_space(path));
        Self {
            scripted,
            disks: Disks::new(DaemonId(Uuid::nil()), Floor::Bytes(10), reader, places),
            health: DaemonHealth::default(),
        }
    }

    async fn read(&mut self) -> bool {
        self.disks.read(&self.health).await
    }

    /// Checks until it is so.
    async fn read_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + BOUND;
        while !is_so(self) {
            assert!(Instant::now() < end, "problems: {:?}", self.problems());
            self.read().await;
            tokio::task::yield_now().await;
        }
    }

    /// Lets the disk of artifacts hang, and checks. The check does not wait in real time: the clock advances at once
    /// when nothing else can happen.
    async fn look_while_it_hangs(&mut self) -> bool {
        self.scripted.set(ARTIFACTS, Script::Hangs);
        tokio::time::pause();
        let is_new = self.read().await;
        tokio::time::resume();
        self.scripted.wait_for(1);
        is_new
    }

    fn problems(&self) -> Vec<String> {
        let problems = self.health.problems();
        problems.into_iter().map(|problem| problem.what).collect()
    }
}

#[tokio::test]
async fn a_disk_that_does_not_answer_pauses_new_stages_until_it_does() {
    let mut guarded = GuardedDisks::new(None);
    assert!(!guarded.read().await);
    assert!(!guarded.health.pauses_claims());

    assert!(guarded.look_while_it_hangs().await, "it is new");
    assert_eq!(
        guarded.problems(),
        ["the disk of artifacts does not answer"]
    );
    assert!(guarded.health.pauses_claims());

    guarded.scripted.set(ARTIFACTS, Script::Free(50));
    guarded
        .read_until(|guarded| guarded.problems().is_empty())
        .await;
    assert!(!guarded.health.pauses_claims());
}

#[tokio::test]
async fn a_disk_that_hangs_has_one_read_in_progress() {
    let mut guarded = GuardedDisks::new(None);
    guarded.look_while_it_hangs().await;
    for _ in 0..100 {
        assert!(!guarded.read().await, "nothing is new");
    }
    assert_eq!(guarded.scripted.begun(), 1);
    guarded.scripted.set(ARTIFACTS, Script::Free(50));
    guarded
        .read_until(|guarded| guarded.problems().is_empty())
        .await;
    assert_eq!(guarded.scripted.known.lock().unwrap().under_way_most, 1);
}

#[tokio::test]
async fn a_disk_that_answers_too_late_each_time_does_not_flicker() {
    let mut guarded = GuardedDisks::new(None);
    guarded.look_while_it_hangs().await;
    tokio::time::pause();
    for begun in 2..5 {
        guarded.scripted.set(ARTIFACTS, Script::Free(50));
        guarded.scripted.wait_for(0);
        guarded.scripted.set(ARTIFACTS, Script::Hangs);
        let looked = |guarded: &GuardedDisks| {
            assert_eq!(
                guarded.problems(),
                ["the disk of artifacts does not answer"]
            );
            guarded.scripted.begun() == begun
        };
        guarded.read_until(looked).await;
    }
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_hide_another() {
    let mut guarded = GuardedDisks::new(Some(Script::Free(50)));
    guarded.look_while_it_hangs().await;
    guarded.scripted.set(DATA, Script::Free(5));
    let words = [
        "the disk of the data folder has less than 10 B free",
        "the disk of artifacts does not answer",
    ];
    guarded
        .read_until(|guarded| guarded.problems() == words)
        .await;
}

#[tokio::test]
async fn a_disk_that_the_system_cannot_reach_does_not_answer() {
    let mut guarded = GuardedDisks::new(None);
    guarded
        .scripted
        .set(ARTIFACTS, Script::Fails(ErrorKind::StaleNetworkFileHandle));
    assert!(guarded.read().await);
    assert_eq!(
        guarded.problems(),
        ["the disk of artifacts does not answer"]
    );
    guarded.scripted.set(ARTIFACTS, Script::Free(50));
    assert!(guarded.read().await);
    assert!(guarded.problems().is_empty());
}

#[tokio::test]
async fn a_disk_that_the_daemon_may_not_read_keeps_its_state() {
    let mut guarded = GuardedDisks::new(None);
    let denied = Script::Fails(ErrorKind::PermissionDenied);
    guarded.scripted.set(ARTIFACTS, denied);
    assert!(!guarded.read().await);
    assert!(!guarded.health.pauses_claims());
    guarded.scripted.set(ARTIFACTS, Script::Free(5));
    guarded.read().await;
    guarded.scripted.set(ARTIFACTS, denied);
    guarded.read().await;
    assert_eq!(
        guarded.problems(),
        ["the disk of artifacts has little free"]
    );
}
