//! The disks that are guarded: how much room each has, and whether it answers at all.
//!
//! Asking a disk may take for ever: a network file system whose server is gone neither answers nor fails. So
//! each look has a thread of its own that nobody waits for beyond a bound, and the next one begins only when
//! that has ended: one that hangs costs one thread, however long it does. They are no threads of the
//! runtime's, whose end would wait for them.
//!
//! A disk that does not answer holds back what is new as one without room does: what is started would work for
//! nothing.

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
use trainyard_store::fleet::figures::FREE_BYTES;
use trainyard_store::{Condition, TroubleKind};

use crate::clock;
use crate::health::space::{self, Floor, Look, Place, Room};

/// How long a disk may take to say how much room there is. Longer, and it does not answer.
const LOOK_AT_MOST: Duration = Duration::from_secs(5);

/// How long it counts that the database refused a write for want of room: what waits for it tries again
/// every two seconds.
const REFUSED: Duration = Duration::from_secs(5);

/// The guarded disks of one daemon.
#[derive(Debug)]
pub struct Disks {
    daemon: DaemonId,
    floor: Floor,
    look: Look,
    disks: Vec<Disk>,
}

impl Disks {
    /// The disks of `places`, each once.
    #[must_use]
    pub fn new(daemon: DaemonId, floor: Floor, look: Look, places: Vec<Place>) -> Self {
        let places = space::one_of_each_disk(places);
        Self {
            daemon,
            floor,
            look,
            disks: places.into_iter().map(Disk::new).collect(),
        }
    }

    /// Looks at all of them, and notes what is amiss. Returns whether there is something new to tell.
    pub async fn look(&mut self, condition: &Condition) -> bool {
        // All at the same time: one that hangs keeps nobody from seeing the others.
        for disk in &mut self.disks {
            disk.begin(&self.look);
        }
        let (mut low, mut silent) = (Vec::new(), Vec::new());
        for disk in &mut self.disks {
            let answer = disk.answer().await;
            disk.heed(answer, self.floor, self.daemon);
            let words = disk.place.role.words();
            match disk.sight {
                Some(Sight::Silent) => silent.push(format!("the disk of {words} does not answer")),
                Some(Sight::Room(room)) if disk.is_low => {
                    let bound = in_units(self.floor.of(room));
                    low.push(format!("the disk of {words} has less than {bound} free"));
                }
                // It is as it was.
                Some(Sight::Unknown) if disk.is_low => {
                    low.push(format!("the disk of {words} has little free"));
                }
                Some(Sight::Room(_) | Sight::Unknown) | None => {}
            }
        }
        if condition.was_refused_for_room_within(REFUSED, Instant::now().into_std()) {
            low.push("the disk of the database is full".to_owned());
        }
        let note = |kind, what: Vec<String>| {
            let what = (!what.is_empty()).then(|| what.join(" and "));
            condition.note(kind, what, clock::now())
        };
        let new = [
            note(TroubleKind::Space, low),
            note(TroubleKind::Disk, silent),
        ];
        new.contains(&true)
    }
}

#[derive(Debug)]
struct Disk {
    place: Place,
    sight: Option<Sight>,
    is_low: bool,
    under_way: Option<UnderWay>,
}

/// What the last look at a disk saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// So much room.
    Room(Room),
    /// It does not answer, or the system says that it cannot be reached.
    Silent,
    /// The daemon cannot look there, which tells nothing of the disk.
    Unknown,
}

/// A look that was begun.
#[derive(Debug)]
struct UnderWay {
    answer: oneshot::Receiver<io::Result<Room>>,
    until: Instant,
}

impl Disk {
    fn new(place: Place) -> Self {
        Self {
            place,
            sight: None,
            is_low: false,
            under_way: None,
        }
    }

    /// Begins a look, unless one is under way still. What the last one answered too late is dropped: only an
    /// answer in time says that the disk is well, or a slow one would flicker.
    fn begin(&mut self, look: &Look) {
        if let Some(under_way) = &mut self.under_way
            && matches!(under_way.answer.try_recv(), Err(TryRecvError::Empty))
        {
            return;
        }
        let (tell, answer) = oneshot::channel();
        let (look, path) = (look.clone(), self.place.path.clone());
        let begun = thread::Builder::new()
            .name("disk-look".to_owned())
            .spawn(move || drop(tell.send(look.at(&path))));
        // Without a thread nobody answers, which the receiver tells.
        drop(begun);
        let until = Instant::now() + LOOK_AT_MOST;
        self.under_way = Some(UnderWay { answer, until });
    }

    /// The answer of the look that is under way; nothing where it does not come in time.
    async fn answer(&mut self) -> Option<io::Result<Room>> {
        let under_way = self.under_way.as_mut()?;
        if under_way.until <= Instant::now() {
            return None;
        }
        let answer = tokio::time::timeout_at(under_way.until, &mut under_way.answer);
        let answer = answer.await.ok()?;
        self.under_way = None;
        Some(answer.unwrap_or_else(|_| Err(io::Error::other("the free space could not be read"))))
    }

    /// Takes an answer, or that there was none, and tells the log what is new about it.
    fn heed(&mut self, answer: Option<io::Result<Room>>, floor: Floor, daemon: DaemonId) {
        let (place, path) = (self.place.role.as_str(), self.place.path.display());
        let (sight, error) = match answer {
            Some(Ok(room)) => (Sight::Room(room), None),
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
            Sight::Room(room) => {
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

/// Whether an error tells that the disk is out of reach, rather than that the daemon may not or cannot look
/// there: a server that does not know its files any more, a file system whose program is gone.
fn is_of_the_disk(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StaleNetworkFileHandle
            | ErrorKind::NotConnected
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
    ) || error.raw_os_error() == Some(EIO)
}
