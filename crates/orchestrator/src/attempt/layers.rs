//! Checks now and then how much running containers write to Docker's disk, since few Docker engines bound it.
//!
//! A container that has written more than its limit is stopped. A container within its limit is stopped all the same
//! if the disk runs full and no other container has written as much: nothing new starts on a full disk, and the
//! container that fills it would hold up all others. If there is none, a build is cancelled.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use trainyard_core::event::Ending;
use trainyard_core::id::AttemptId;
use trainyard_core::measure::in_units;
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_executor::{Containers, Handle};

use crate::health::space::{DiskSpace, Floor, SpaceReader};

/// The shortest time between two checks of one container.
const EVERY: Duration = Duration::from_secs(10);

/// The share of the time in which one container is checked: at most one part in this many. Docker walks through all
/// of its files for a check.
const PART: u32 = 20;

/// The deadline of a check.
const LOOK_AT_MOST: Duration = Duration::from_secs(90);

/// The deadline for reading the free space of the disk.
const DISK_AT_MOST: Duration = Duration::from_secs(5);

/// How long the removal of a container that was stopped to make room may take before another one is stopped.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// The containers of one Docker engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Layers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: Option<u64>,
    disk: Option<DockerDisk>,
    /// One check at a time: a Docker engine may have slow disks.
    turn: tokio::sync::Mutex<()>,
    /// The disk use of each container at its last check; `None` if the check timed out.
    written: Mutex<HashMap<AttemptId, Option<u64>>>,
    /// When a container was last stopped to make room.
    stopped: Mutex<Option<Instant>>,
}

/// The disk of a Docker engine on this machine.
#[derive(Debug)]
struct DockerDisk {
    path: PathBuf,
    floor: Floor,
    reader: SpaceReader,
}

impl Layers {
    /// Each container may write `limit` bytes; 0 means no limit.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self::with(limit, None)
    }

    /// As `new`, for a Docker engine whose disk is that of `path` and needs `floor` free.
    #[must_use]
    pub fn on_disk(limit: u64, path: PathBuf, floor: Floor, reader: SpaceReader) -> Self {
        Self::with(
            limit,
            Some(DockerDisk {
                path,
                floor,
                reader,
            }),
        )
    }

    fn with(limit: u64, disk: Option<DockerDisk>) -> Self {
        let shared = Shared {
            limit: (limit > 0).then_some(limit),
            disk,
            turn: tokio::sync::Mutex::default(),
            written: Mutex::default(),
            stopped: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits until a running container has to be stopped for its disk use; returns how that ends its attempt.
    pub(crate) async fn until_too_much<E: Containers>(
        &self,
        executor: &E,
        handle: &Handle,
    ) -> Ending {
        let shared = &*self.shared;
        if shared.limit.is_none() && shared.disk.is_none() {
            return std::future::pending().await;
        }
        let attempt = handle.attempt;
        let _forgotten = Forget { shared, attempt };
        let mut pause = EVERY;
        loop {
            tokio::time::sleep(pause).await;
            let turn = shared.turn.lock().await;
            let begun = Instant::now();
            let looked = tokio::time::timeout(LOOK_AT_MOST, executor.written(handle)).await;
            let written = match looked {
                Ok(Ok(Some(bytes))) => Some(bytes),
                // It ended, or this Docker engine cannot measure it.
                Ok(Ok(None)) => {
                    pause = EVERY * PART;
                    continue;
                }
                Ok(Err(error)) => {
                    debug!(%error, "the disk use of a container is not known");
                    None
                }
                Err(_) => None,
            };
            // A Docker engine that does not answer says nothing about this container.
            if written.is_none() && executor.ping().await.is_err() {
                pause = EVERY.max(begun.elapsed() * PART);
                continue;
            }
            drop(turn);
            pause = EVERY.max(begun.elapsed() * PART);
            shared.lock().insert(attempt, written);
            if let Some(ending) = shared.too_much(attempt, written).await {
                return ending;
            }
        }
    }
}

impl Layers {
    /// Waits until a build has to be cancelled because the disk runs full; returns how that ends its attempt. A
    /// container that has written as much as has to be free is stopped before. How much a build has written is not
    /// known here.
    pub(crate) async fn until_no_room_to_build(&self) -> Ending {
        let shared = &*self.shared;
        if shared.disk.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(EVERY).await;
            let Some((room, floor)) = shared.low_disk().await else {
                continue;
            };
            let frees = |written: &Option<u64>| written.is_none_or(|written| written >= floor);
            if shared.lock().values().any(frees) || !shared.may_stop_for_room() {
                continue;
            }
            let message = format!(
                "Docker's disk has {} free, which is less than the {} that it needs; the build of the image was \
                 cancelled",
                in_units(room.free),
                in_units(floor)
            );
            return Ending::Errored(Reason::new(ReasonCode::Storage, message));
        }
    }
}

impl Shared {
    async fn too_much(&self, attempt: AttemptId, written: Option<u64>) -> Option<Ending> {
        if let (Some(written), Some(limit)) = (written, self.limit)
            && written > limit
        {
            let message = format!(
                "its container has written {} to Docker's disk, and may write {} (limits.layer); \
                 it was stopped",
                in_units(written),
                in_units(limit)
            );
            return Some(Ending::Rejected(Reason::new(ReasonCode::Storage, message)));
        }
        let (room, floor) = self.low_disk().await?;
        let frees = written.is_none_or(|written| written >= floor);
        if !frees || !self.is_largest(attempt) || !self.may_stop_for_room() {
            return None;
        }
        let what = written.map_or_else(
            || "so many files that they could not be counted".to_owned(),
            in_units,
        );
        let message = format!(
            "Docker's disk has {} free, which is less than the {} that it needs, and of all containers \
             this one has written the most ({what}); it was stopped",
            in_units(room.free),
            in_units(floor)
        );
        Some(Ending::Errored(Reason::new(ReasonCode::Storage, message)))
    }

    /// The free space on Docker's disk and the space that it needs, if that is more. Other checks report a disk that
    /// does not answer.
    async fn low_disk(&self) -> Option<(DiskSpace, u64)> {
        let disk = self.disk.as_ref()?;
        let (reader, path) = (disk.reader.clone(), disk.path.clone());
        let looked = tokio::task::spawn_blocking(move || reader.at(&path));
        let room = tokio::time::timeout(DISK_AT_MOST, looked).await;
        let room = room.ok()?.ok()?.ok()?;
        let floor = disk.floor.of(room);
        (room.free < floor).then_some((room, floor))
    }

    /// Whether a container may be stopped now to make room: the one that was stopped before has to be gone first. If
    /// so, records that one is stopped.
    fn may_stop_for_room(&self) -> bool {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if stopped.is_some_and(|at| at.elapsed() < GONE_AFTER) {
            return false;
        }
        *stopped = Some(Instant::now());
        true
    }

    /// Whether no other container has written more. A container that could not be measured counts as the largest.
    fn is_largest(&self, attempt: AttemptId) -> bool {
        let written = self.lock();
        let size = |written: &Option<u64>| written.unwrap_or(u64::MAX);
        let largest = written
            .iter()
            .max_by_key(|(other, bytes)| (size(bytes), **other));
        largest.is_some_and(|(largest, _)| *largest == attempt)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, Option<u64>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a container that is no longer checked.
struct Forget<'a> {
    shared: &'a Shared,
    attempt: AttemptId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.attempt);
    }
}
