//! Measures how much a container has written: into its own layer, and into the volumes that its image declares.
//!
//! Docker counts its layer by walking through the files, so this takes longer the more there are. It counts
//! lengths: a file with holes counts in full. It counts neither volumes nor files that were removed while a program
//! has them open, which still take up space. The daemon counts these itself if Docker is on this machine and the
//! daemon runs as root.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::InspectContainerOptionsBuilder;
use trainyard_failpoint::{AtPoint as _, Point};

use super::errors::{LONG, within};
use crate::error::{Error, ErrorKind};

/// The unit in which the system reports the disk space of a file.
const BLOCK: u64 = 512;

/// How long the daemon walks through volumes and open files.
const LOOKS_FOR: Duration = Duration::from_secs(20);

/// The bytes written by now; `None` where the container does not exist, or Docker does not say.
pub(super) async fn written(client: &Client, container: &str) -> Result<Option<u64>, Error> {
    let options = InspectContainerOptionsBuilder::default().size(true).build();
    let found = within(
        LONG,
        client
            .inspect_container(container, Some(options))
            .at(Point::InspectContainer),
    )
    .await;
    let found = match found {
        Ok(found) => found,
        Err(call_error) if call_error.status() == Some(404) => return Ok(None),
        Err(call_error) => {
            return Err(call_error.into_error("measure what a container has written"));
        }
    };
    let Some(layer) = found.size_rw.and_then(|size| u64::try_from(size).ok()) else {
        return Ok(None);
    };
    let volumes = volumes(&found);
    let process = found.state.and_then(|state| state.pid).unwrap_or_default();
    let sizes = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + LOOKS_FOR;
        let removed = size_of_removed(container_processes(process), &volumes, until)?;
        Some(size_of(volumes, until)?.saturating_add(removed))
    });
    match sizes.await {
        Ok(Some(size)) => Ok(Some(layer.saturating_add(size))),
        Ok(None) | Err(_) => {
            let message =
                format!("what a container wrote could not be counted within {LOOKS_FOR:?}");
            Err(Error::new(ErrorKind::Engine, message))
        }
    }
}

/// The folders of the volumes that Docker made for this container because its image declares them. The init's own is
/// read-only.
fn volumes(found: &ContainerInspectResponse) -> Vec<PathBuf> {
    let mounts = found.mounts.iter().flatten();
    mounts
        .filter(|mount| mount.typ.as_deref() == Some("volume") && mount.rw != Some(false))
        .filter_map(|mount| mount.source.as_ref().map(PathBuf::from))
        .collect()
}

/// The disk space of the files in these folders; `None` where time ran out. Files that may not be read count as
/// nothing.
fn size_of(mut folders: Vec<PathBuf>, until: Instant) -> Option<u64> {
    let mut size: u64 = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if Instant::now() > until {
                return None;
            }
            // Of the link itself, not of its target.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            size = size.saturating_add(about.blocks().saturating_mul(BLOCK));
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Some(size)
}

/// The processes of the container whose first process this is, on this machine; none where they are not known.
fn container_processes(first: i64) -> Vec<i64> {
    let Ok(groups) = fs::read_to_string(format!("/proc/{first}/cgroup")) else {
        return Vec::new();
    };
    // `9:memory:/docker/ID`, or `0::/system.slice/docker-ID.scope` where there is one hierarchy only.
    let lists = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controller, path) = (parts.next()?, parts.next()?);
        let is_own = path.len() > 1 && !path.contains("..");
        let list = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(path.trim_start_matches('/'))
            .join("cgroup.procs");
        is_own.then_some(list)
    });
    lists
        .filter_map(|list| fs::read_to_string(list).ok())
        .map(|list| list.lines().filter_map(|line| line.parse().ok()).collect())
        .max_by_key(Vec::len)
        .unwrap_or_default()
}

/// The disk space of files that these processes have open and that no folder has any more; `None` where time ran out.
/// Files in memory are left out: only those on the disk of a container's root or of its volumes count.
fn size_of_removed(processes: Vec<i64>, volumes: &[PathBuf], until: Instant) -> Option<u64> {
    let disk = |path: &Path| fs::metadata(path).map(|about| about.dev()).ok();
    let mut disks: HashSet<u64> = volumes.iter().filter_map(|path| disk(path)).collect();
    let mut seen = HashSet::new();
    let mut size: u64 = 0;
    for process in processes {
        let own = PathBuf::from(format!("/proc/{process}"));
        disks.extend(disk(&own.join("root")));
        for open in ["fd", "map_files"] {
            for entry in fs::read_dir(own.join(open)).into_iter().flatten().flatten() {
                if Instant::now() > until {
                    return None;
                }
                // Of the open file, wherever its name leads.
                let Ok(about) = fs::metadata(entry.path()) else {
                    continue;
                };
                let counts = about.is_file() && about.nlink() == 0 && disks.contains(&about.dev());
                if counts && seen.insert((about.dev(), about.ino())) {
                    size = size.saturating_add(about.blocks().saturating_mul(BLOCK));
                }
            }
        }
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_by_what_they_take_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, elsewhere) = (folder.path().join("a/b"), folder.path().join("c"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&elsewhere).unwrap();
        for folder in [&inside, &elsewhere] {
            fs::write(folder.join("full"), vec![1; 1 << 20]).unwrap();
        }
        let sparse = fs::File::create(inside.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink(&elsewhere, inside.join("link")).unwrap();
        let later = Instant::now() + Duration::from_secs(600);
        let size = size_of(vec![folder.path().join("a")], later).unwrap();
        assert!((1 << 20..2 << 20).contains(&size), "{size}");
    }

    #[test]
    fn a_file_that_was_removed_while_it_is_open_counts() {
        use std::io::Write;

        // On the disk of the root, as a container's files are; a temporary folder may be in memory.
        let mut removed = tempfile::tempfile_in("/").unwrap();
        removed.write_all(&vec![1; 1 << 20]).unwrap();
        removed.sync_all().unwrap();
        let own = vec![i64::from(std::process::id())];
        let later = Instant::now() + Duration::from_secs(600);
        let size = size_of_removed(own, &[], later).unwrap();
        assert!(size >= 1 << 20, "{size}");
    }

    #[test]
    fn counting_ends_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "a").unwrap();
        let past = Instant::now() - Duration::from_millis(1);
        assert_eq!(size_of(vec![folder.path().to_owned()], past), None);
    }
}
