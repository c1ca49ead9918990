//! Checks the free space on the disks that stages need.
//!
//! A Docker engine whose disk is full hangs rather than refuses, and an attempt that ends without room for its
//! outputs has worked for nothing; so new stages wait. Running stages go on: they may be what frees space. New
//! stages start again by themselves once there is free space and some to spare, so that the check does not flicker
//! around the bound.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

/// The default bound, in bytes. It has room for an image of a few layers, the outputs of a stage, and a database that
/// goes on writing.
const USUAL: u64 = 2 << 30;

/// Or this part of the disk if that is less: small disks hold small things.
const USUAL_PART: u64 = 20;

/// A directory whose disk is guarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub role: DiskRole,
    pub path: PathBuf,
}

/// The use of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskRole {
    /// The daemon's own data.
    Data,
    /// The artifact store.
    Artifacts,
    /// Images and containers of Docker.
    Engine,
}

impl DiskRole {
    /// The name in structured output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Artifacts => "artifacts",
            Self::Engine => "engine",
        }
    }

    /// The words in messages.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Data => "the data folder",
            Self::Artifacts => "artifacts",
            Self::Engine => "Docker",
        }
    }
}

/// Space on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// The bytes that may still be written.
    pub free: u64,
    /// The size of the disk.
    pub total: u64,
}

/// How much has to be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// 2 GiB, or 5 % of a disk where that is less.
    Usual,
    /// This many bytes; 0 switches the guard off.
    Bytes(u64),
}

impl Floor {
    /// The bound for a disk, in bytes.
    #[must_use]
    pub fn of(self, room: DiskSpace) -> u64 {
        match self {
            Self::Usual => USUAL.min(room.total / USUAL_PART),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Whether there is too little free space, given the previous result.
    #[must_use]
    pub fn is_low(self, room: DiskSpace, was_low: bool) -> bool {
        let floor = self.of(room);
        let bound = if was_low { floor + floor / 4 } else { floor };
        room.free < bound
    }
}

/// A function that reads the free space of a directory's disk: the system's, unless a test replaces it.
/// Cheap to clone.
#[derive(Clone)]
pub struct SpaceReader(Arc<ReadSpace>);

type ReadSpace = dyn Fn(&Path) -> io::Result<DiskSpace> + Send + Sync;

impl SpaceReader {
    /// Reads by `read`, which may block.
    pub fn new(read: impl Fn(&Path) -> io::Result<DiskSpace> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads the free space. May block for as long as the disk does.
    ///
    /// # Errors
    /// The system cannot read it.
    pub fn at(&self, path: &Path) -> io::Result<DiskSpace> {
        (self.0)(path)
    }
}

impl Default for SpaceReader {
    fn default() -> Self {
        Self::new(read_space)
    }
}

impl fmt::Debug for SpaceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpaceReader")
    }
}

/// Reads the free space of a directory's disk. May block for as long as the disk does.
///
/// # Errors
/// The system cannot read it.
pub fn read_space(path: &Path) -> io::Result<DiskSpace> {
    let disk = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
    Ok(DiskSpace {
        free: bytes(disk.blocks_available()),
        total: bytes(disk.blocks()),
    })
}

/// The first place on each disk.
#[must_use]
pub fn one_of_each_disk(places: Vec<Disk>) -> Vec<Disk> {
    let mut seen = Vec::new();
    places
        .into_iter()
        .filter(|place| {
            let Ok(about) = std::fs::metadata(&place.path) else {
                return true;
            };
            let new = !seen.contains(&about.dev());
            seen.push(about.dev());
            new
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(free: u64, total: u64) -> DiskSpace {
        DiskSpace { free, total }
    }

    #[test]
    fn a_large_disk_needs_two_gibibytes_and_a_small_one_a_twentieth() {
        assert_eq!(Floor::Usual.of(room(0, 1000 * GIB)), 2 * GIB);
        assert_eq!(Floor::Usual.of(room(0, 20 * GIB)), GIB);
        assert!(!Floor::Usual.is_low(room(2 << 20, 24 << 20), false));
        assert!(Floor::Usual.is_low(room(1 << 20, 24 << 20), false));
    }

    #[test]
    fn starting_goes_on_only_with_something_to_spare() {
        let floor = Floor::Bytes(4 * GIB);
        let disk = 100 * GIB;
        assert!(floor.is_low(room(4 * GIB - 1, disk), false));
        assert!(floor.is_low(room(5 * GIB - 1, disk), true));
        assert!(!floor.is_low(room(5 * GIB, disk), true));
        assert!(!floor.is_low(room(4 * GIB, disk), false));
    }

    #[test]
    fn a_bound_of_zero_switches_the_guard_off() {
        assert!(!Floor::Bytes(0).is_low(room(0, GIB), false));
        assert!(!Floor::Bytes(0).is_low(room(0, GIB), true));
    }

    #[test]
    fn places_on_one_disk_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = |role, path: &Path| Disk {
            role,
            path: path.to_owned(),
        };
        let places = vec![
            place(DiskRole::Data, folder.path()),
            place(DiskRole::Artifacts, folder.path()),
        ];
        let kept = one_of_each_disk(places);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].role, DiskRole::Data);
    }
}
