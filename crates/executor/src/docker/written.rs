//! How much a container has written: into its own layer, and into the volumes that its image declares.
//!
//! The engine counts its layer by walking through the files, so this takes as long as there are many. It counts
//! lengths: a file with holes counts in full. It does not count volumes; they are looked at where they are on this
//! machine and the daemon may read them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::InspectContainerOptionsBuilder;
use trainyard_failpoint::{Effect as _, Point};

use super::errors::{LONG, within};
use crate::contract::{Error, ErrorKind};

/// How long the daemon looks through volumes.
const LOOKS_FOR: Duration = Duration::from_secs(20);

/// What is written by now; `None` where there is no such container, or the engine does not say.
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
        Err(trouble) if trouble.status() == Some(404) => return Ok(None),
        Err(trouble) => return Err(trouble.into_error("tell what a container has written")),
    };
    let Some(layer) = found.size_rw.and_then(|size| u64::try_from(size).ok()) else {
        return Ok(None);
    };
    let volumes = volumes(&found);
    if volumes.is_empty() {
        return Ok(Some(layer));
    }
    let sizes = tokio::task::spawn_blocking(move || size_of(volumes, Instant::now() + LOOKS_FOR));
    match sizes.await {
        Ok(Some(size)) => Ok(Some(layer.saturating_add(size))),
        Ok(None) | Err(_) => {
            let message =
                format!("what a container wrote could not be counted within {LOOKS_FOR:?}");
            Err(Error::new(ErrorKind::Engine, message))
        }
    }
}

/// Where the volumes are that the engine made for this container since its image declares them. The init's own is
/// read-only.
fn volumes(found: &ContainerInspectResponse) -> Vec<PathBuf> {
    let mounts = found.mounts.iter().flatten();
    mounts
        .filter(|mount| mount.typ.as_deref() == Some("volume") && mount.rw != Some(false))
        .filter_map(|mount| mount.source.as_ref().map(PathBuf::from))
        .collect()
}

/// What the files in these folders take on the disk; `None` where time ran out. What may not be read counts as
/// nothing.
fn size_of(mut folders: Vec<PathBuf>, until: Instant) -> Option<u64> {
    const BLOCK: u64 = 512;
    let mut size: u64 = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if Instant::now() > until {
                return None;
            }
            // Not of what a link leads to.
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
    fn counting_ends_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "a").unwrap();
        let past = Instant::now() - Duration::from_millis(1);
        assert_eq!(size_of(vec![folder.path().to_owned()], past), None);
    }
}
