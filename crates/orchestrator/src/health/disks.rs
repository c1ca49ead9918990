//! The guarded disks: how much free space each has, and whether it answers at all.
//!
//! Reading a disk may block for ever: a network file system whose server is gone neither answers nor fails. So each
//! read has a thread of its own with a bounded wait, and the next read begins only when the thread has ended: a
//! hanging disk costs one thread, for however long it hangs. The threads are not the runtime's, whose shutdown would
//! wait for them.
//!
//! A disk that does not answer pauses new stages like one without free space: they would work for nothing.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use nix::libc::EIO;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;
use tracing::{info, warn};
use trainyard_core::id::DaemonId;
use trainyard_core::measure::in_units;
use trainyard_store::fleet::metrics::FREE_BYTES;
use trainyard_store::{DaemonHealth, ProblemKind};

use crate::clock;
use crate::health::space::{self, Disk, DiskSpace, Floor, SpaceReader};

/// The deadline of a read. After it, the disk counts as not answering.
const LOOK_AT_MOST: Duration = Duration::from_secs(5);

/// How long a write that the database refused for lack of space counts: writers retry every two seconds.
const REFUSED: Duration = Duration::from_secs(5);

/// The guarded disks of one daemon.
#[derive(Debug)]
pub struct Disks {
    daemon: DaemonId,
    floor: Floor,
    reader: SpaceReader,
    disks: Vec<WatchedDisk>,
}

impl Disks {
    /// The disks of `places`, each disk once.
    #[must_use]
    pub fn new(daemon: DaemonId, floor: Floor, reader: SpaceReader, places: Vec<Disk>) -> Self {
        let places = space::one_of_each_disk(places);
        Self {
            daemon,
            floor,
            reader,
            disks: places.into_iter().map(WatchedDisk::new).collect(),
        }
    }

    /// Reads all disks and records their problems. Returns whether there is a new one to report.
    pub async fn read(&mut self, health: &DaemonHealth) -> bool {
        // Concurrently: a hanging disk must not hide the others.
        for disk in &mut self.disks {
            disk.begin(&self.reader);
        }
        let (mut low, mut silent) = (Vec::new(), Vec::new());
        for disk in &mut self.disks {
            let answer = disk.answer().await;
            disk.update(answer, self.floor, self.daemon);
            let words = disk.place.role.words();
            match disk.sight {
                Some(Sight::Silent) => silent.push(format!("the disk of {words} does not answer")),
                Some(Sight::Free(room)) if disk.is_low => {
                    let bound = in_units(self.floor.of(room));
                    low.push(format!("the disk of {words} has less than {bound} free"));
                }
                // Unchanged.
                Some(Sight::Unknown) if disk.is_low => {
                    low.push(format!("the disk of {words} has little free"));
                }
                Some(Sight::Free(_) | Sight::Unknown) | None => {}
            }
        }
        if health.was_refused_for_room_within(REFUSED, Instant::now().into_std()) {
            low.push("the disk of the database is full".to_owned());
        }
        let note = |kind, what: Vec<String>| {
            let what = (!what.is_empty()).then(|| what.join(" and "));
            health.note(kind, what, clock::now())
        };
        let new = [
            note(ProblemKind::Space, low),
            note(ProblemKind::Disk, silent),
        ];
        new.contains(&true)
    }
}

#[derive(Debug)]
struct WatchedDisk {
    place: Disk,
    sight: Option<Sight>,
    is_low: bool,
    under_way: Option<UnderWay>,
}

/// The result of the last read of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// This much free space.
    Free(DiskSpace),
    /// It does not answer, or the system reports that it cannot be reached.
    Silent,
    /// The daemon may not read it, which proves nothing about the disk.
    Unknown,
}

/// A read in progress.
#[derive(Debug)]
struct UnderWay {
    answer: oneshot::Receiver<io::Result<DiskSpace>>,
    until: Instant,
}

impl WatchedDisk {
    fn new(place: Disk) -> Self {
        Self {
            place,
            sight: None,
            is_low: false,
            under_way: None,
        }
    }

    /// Begins a read, unless one is in progress. A late answer to the previous read is dropped: only an answer in
    /// time proves that the disk is healthy, or a slow disk would flicker.
    fn begin(&mut self, reader: &SpaceReader) {
        if let Some(under_way) = &mut self.under_way
            && matches!(under_way.answer.try_recv(), Err(TryRecvError::Empty))
        {
            return;
        }
        let (sender, answer) = oneshot::channel();
        let (reader, path) = (reader.clone(), self.place.path.clone());
        let begun = thread::Builder::new()
            .name("disk-look".to_owned())
            .spawn(move || drop(sender.send(reader.at(&path))));
        // Without a thread no answer comes, which the receiver sees.
        drop(begun);
        let until = Instant::now() + LOOK_AT_MOST;
        self.under_way = Some(UnderWay { answer, until });
    }

    /// The answer of the read in progress; `None` if it does not come in time.
    async fn answer(&mut self) -> Option<io::Result<DiskSpace>> {
        let under_way = self.under_way.as_mut()?;
        if under_way.until <= Instant::now() {
            return None;
        }
        let answer = tokio::time::timeout_at(under_way.until, &mut under_way.answer);
        let answer = answer.await.ok()?;
        self.under_way = None;
        Some(answer.unwrap_or_else(|_| Err(io::Error::other("the free space could not be read"))))
    }

    /// Takes an answer, or its absence, and logs a change.
    fn update(&mut self, answer: Option<io::Result<DiskSpace>>, floor: Floor, daemon: DaemonId) {
        let (place, path) = (self.place.role.as_str(), self.place.path.display());
        let (sight, error) = match answer {
            Some(Ok(room)) => (Sight::Free(room), None),
            Some(Err(error)) if is_of_the_disk(&error) => (Sight::Silent, Some(error.to_string())),
            Some(Err(error)) => (Sight::Unknown, Some(error.to_string())),
            None => (Sight::Silent, None),
        };
        let before = self.sight.replace(sight);
        if before == Some(Sight::Silent) && sight != Sight::Silent {
            info!(daemon.id = %daemon, place, %path, "the disk answers again");
        }
        match sight {
            Sight::Silent if before != Some(sight) => {
                warn!(daemon.id = %daemon, place, %path, error, "the disk does not answer; nothing new is started until it does");
            }
            Sight::Unknown if before != Some(sight) => {
                warn!(daemon.id = %daemon, place, %path, error, "could not read free disk space; starting new stages anyway");
            }
            Sight::Silent | Sight::Unknown => {}
            Sight::Free(room) => {
                let (was_low, free) = (self.is_low, in_units(room.free));
                self.is_low = floor.is_low(room, was_low);
                FREE_BYTES.set_for(place, room.free as f64);
                match (was_low, self.is_low) {
                    (false, true) => {
                        warn!(daemon.id = %daemon, place, %path, free, "little free space; nothing new is started until there is more");
                    }
                    (true, false) => {
                        info!(daemon.id = %daemon, place, %path, free, "there is free space again");
                    }
                    (false, false) | (true, true) => {}
                }
            }
        }
    }
}

/// Whether an error proves that the disk is out of reach (a server that no longer knows its files, a file system
/// whose program is gone), and not only that the daemon may not or cannot read there.
fn is_of_the_disk(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StaleNetworkFileHandle
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
    ) || error.raw_os_error() == Some(EIO)
}
