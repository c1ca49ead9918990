//! Mounts Trainyard's init into containers.
//!
//! The init is in a Docker volume, named by its content, that every container mounts read-only:
//!
//! 1. Mounting costs a few milliseconds less than copying it into each container by the archive API.
//! 2. It needs nothing from images, not even from `FROM scratch`.
//! 3. The volume is filled once, by the archive API, through a container that is never started. Its content is
//!    compared before it is used, so a daemon that died half-way, or two that begin together, do no harm.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker as Client;
use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptions, DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tracing::{debug, warn};
use trainyard_core::Timestamp;
use trainyard_failpoint::{AtPoint as _, Flow as _, Point};
use trainyard_init::PROGRAM;

use super::create::image_gone;
use super::errors::{CallError, IDLE, LONG, OfContent, within};
use crate::error::{Error, ErrorKind};

/// Where the volume is mounted.
pub(super) const FOLDER: &str = "/trainyard/init";

pub(super) const PATH: &str = "/trainyard/init/init";

/// Its latch, in the container's own layer: it holds the record.
pub(super) const LATCH: &str = "/trainyard/run/latch";

/// The file that exists until the container is started; see [`super::layout`].
pub(super) const START: &str = "/trainyard/run/start";

/// The label of the volumes, and of the loaders: the containers through which they are filled.
const LABEL: &str = "io.trainyard.init.volume";

/// How often filling is tried: another process may be filling it.
const TRIES: u32 = 5;

/// The wait between tries.
const PAUSE: Duration = Duration::from_millis(300);

/// The usual name of volume and loader, by content: versions do not get into each other's way.
pub(super) fn usual_name() -> String {
    let hash = hex::encode(Sha256::digest(PROGRAM));
    format!("trainyard-init-{}", hash.get(..16).unwrap_or(&hash))
}

/// Docker's volume with the init in it.
#[derive(Debug)]
pub(super) struct InitVolume {
    name: String,
    is_ready: AtomicBool,
    filling: Mutex<()>,
}

impl InitVolume {
    /// The volume of this name, not checked yet.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_ready: AtomicBool::new(false),
            filling: Mutex::default(),
        }
    }

    /// The name of the volume, filled. `image` is any image that Docker has.
    pub(super) async fn ready(&self, client: &Client, image: &str) -> Result<&str, Error> {
        if !self.is_ready.load(Ordering::Acquire) {
            let _turn = self.filling.lock().await;
            if !self.is_ready.load(Ordering::Acquire) {
                fill(client, &self.name, image).await?;
                self.is_ready.store(true, Ordering::Release);
            }
        }
        Ok(&self.name)
    }

    /// Checks the volume again, and fills it if it is missing or empty, whatever was known of it.
    pub(super) async fn mend(&self, client: &Client, image: &str) -> Result<(), Error> {
        self.is_ready.store(false, Ordering::Release);
        self.ready(client, image).await.map(drop)
    }
}

async fn fill(client: &Client, name: &str, image: &str) -> Result<(), Error> {
    let volume = VolumeCreateRequest {
        name: Some(name.to_owned()),
        labels: Some(HashMap::from([(LABEL.to_owned(), String::new())])),
        ..VolumeCreateRequest::default()
    };
    within(LONG, client.create_volume(volume).at(Point::CreateVolume))
        .await
        .map_err(|call_error| call_error.into_error("make a volume"))?;
    let mut tries = 0;
    loop {
        tries += 1;
        match fill_by_loader(client, name, image).await {
            Ok(true) => return Ok(()),
            Ok(false) if tries < TRIES => {
                debug!("another process fills the init volume")
            }
            Ok(false) => {
                let message =
                    format!("the volume {name} does not keep the files that were put into it");
                return Err(Error::new(ErrorKind::Engine, message));
            }
            Err(call_error) if call_error.text().contains("No such image") => {
                return Err(image_gone(image));
            }
            // Another process was done and removed the loader, or is about to: Docker has a different answer
            // for each of its parts that is gone already.
            Err(call_error) if tries < TRIES && call_error.status().is_some() => {
                debug!(
                    error = call_error.text(),
                    "the init's loader could not be used; will retry"
                );
            }
            Err(call_error) => {
                return Err(
                    call_error.into_error_of_container("fill the volume of Trainyard's init")
                );
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Fills the volume through a container of its own; returns whether it holds the init now.
async fn fill_by_loader(client: &Client, name: &str, image: &str) -> Result<bool, CallError> {
    let made = within(
        LONG,
        client
            .create_container(None::<CreateContainerOptions>, loader(name, image))
            .at(Point::CreateLoader),
    )
    .await?;
    let held = fill_through(client, &made.id).await;
    // The housekeeping removes loaders that remain here, and after a crash.
    if let Err(call_error) = remove_loader(client, &made.id).await {
        warn!(
            error = call_error.text(),
            "could not remove the loader of the init; will retry later"
        );
    }
    held
}

async fn fill_through(client: &Client, loader: &str) -> Result<bool, CallError> {
    if content(client, loader).await?.as_deref() == Some(PROGRAM) {
        return Ok(true);
    }
    let options = UploadToContainerOptionsBuilder::default()
        .path(FOLDER)
        .build();
    let body = bollard::body_full(Bytes::from(archive()));
    within(
        LONG,
        client
            .upload_to_container(loader, Some(options), body)
            .at(Point::FillVolume),
    )
    .await?;
    Ok(content(client, loader).await?.as_deref() == Some(PROGRAM))
}

async fn remove_loader(client: &Client, loader: &str) -> Result<(), CallError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    let removed = within(
        LONG,
        client
            .remove_container(loader, Some(options))
            .at(Point::RemoveLoader),
    )
    .await;
    match removed {
        Err(call_error) if !matches!(call_error.status(), Some(404 | 409)) => Err(call_error),
        _ => Ok(()),
    }
}

/// A container that is never started.
fn loader(name: &str, image: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![PATH.to_owned()]),
        labels: Some(HashMap::from([(LABEL.to_owned(), name.to_owned())])),
        host_config: Some(HostConfig {
            mounts: Some(vec![Mount {
                typ: Some(MountType::VOLUME),
                source: Some(name.to_owned()),
                target: Some(FOLDER.to_owned()),
                volume_options: Some(MountVolumeOptions {
                    no_copy: Some(true),
                    ..MountVolumeOptions::default()
                }),
                ..Mount::default()
            }]),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The content of the init's file in the volume; `None` where there is none.
async fn content(client: &Client, name: &str) -> Result<Option<Vec<u8>>, CallError> {
    match file(client, name, PATH, PROGRAM.len()).await? {
        Found::File(bytes) => Ok(Some(bytes)),
        // The volume is filled then; if it still does not match, that is an error.
        Found::Nothing | Found::Unfit => Ok(None),
    }
}

/// The content of a path in a container. A container can hold anything anywhere: an odd file is not an error of
/// Docker, and a retry does not change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    File(Vec<u8>),
    Nothing,
    /// Not the expected file: too large, a folder, a pipe, a circle of links.
    Unfit,
}

/// Reads a file of at most so many bytes.
pub(super) async fn file(
    client: &Client,
    container: &str,
    path: &str,
    at_most: usize,
) -> Result<Found, CallError> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(path)
        .build();
    let mut stream = std::pin::pin!(
        client
            .download_from_container(container, Some(options))
            .at(Point::FetchRecord)
    );
    let mut sent = Vec::new();
    // No more than this is read, whatever the size: the rest of the archive does not matter.
    while sent.len() < at_most + HEADERS {
        match tokio::time::timeout(IDLE, stream.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => sent.extend_from_slice(&piece),
            Ok(Some(Err(error))) => {
                let call_error = CallError::from(error);
                return match call_error.of_content() {
                    Some(OfContent::Missing) => Ok(Found::Nothing),
                    Some(OfContent::Odd) => Ok(Found::Unfit),
                    None => Err(call_error),
                };
            }
            Err(_) => return Err(CallError::Silent("a download made no progress".to_owned())),
        }
    }
    Ok(only_file(&sent, at_most).map_or(Found::Unfit, Found::File))
}

/// The most that an archive has in addition to the content of its first member.
const HEADERS: usize = 8 * 1024;

/// The first member's content; `None` where that is not a file.
fn only_file(archive: &[u8], at_most: usize) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut member = archive.entries().ok()?.next()?.ok()?;
    let is_file = member.header().entry_type().is_file();
    let size = usize::try_from(member.size()).ok()?;
    if !is_file || size > at_most {
        return None;
    }
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes).ok()?;
    (bytes.len() == size).then_some(bytes)
}

/// The init as an archive.
fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(PROGRAM.len() as u64);
    header.set_mode(0o555);
    // Writing to memory does not fail; an incomplete archive would show when it is compared.
    let _ = archive.append_data(&mut header, "init", PROGRAM);
    archive.into_inner().unwrap_or_default()
}

/// Removes leftovers from before a moment: loaders, and, except `ours`, volumes of other versions that no
/// container uses.
pub(super) async fn remove_old(
    client: &Client,
    ours: &str,
    before: Timestamp,
) -> Result<(), Error> {
    remove_old_loaders(client, before)
        .await
        .map_err(|call_error| call_error.into_error("remove the loaders of the init"))?;
    remove_old_volumes(client, ours, before).await
}

async fn remove_old_loaders(client: &Client, before: Timestamp) -> Result<(), CallError> {
    let filters = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let listed = within(
        LONG,
        client
            .list_containers(Some(options))
            .at(Point::ListContainers),
    )
    .await?;
    for left in listed {
        let is_old = left.created.is_some_and(|made| made < before.timestamp());
        if let (true, Some(id)) = (is_old, left.id) {
            remove_loader(client, &id).await?;
        }
    }
    Ok(())
}

async fn remove_old_volumes(client: &Client, ours: &str, before: Timestamp) -> Result<(), Error> {
    let filters = HashMap::from([
        ("label".to_owned(), vec![LABEL.to_owned()]),
        ("dangling".to_owned(), vec!["true".to_owned()]),
    ]);
    let options = ListVolumesOptionsBuilder::default()
        .filters(&filters)
        .build();
    let listed = within(
        LONG,
        client.list_volumes(Some(options)).at(Point::ListVolumes),
    )
    .await
    .map_err(|call_error| call_error.into_error("list volumes"))?;
    for volume in listed.volumes.unwrap_or_default() {
        let is_old = volume.created_at.is_some_and(|made| made < before);
        if !is_old || volume.name == ours {
            continue;
        }
        let options = RemoveVolumeOptionsBuilder::default().build();
        match within(
            LONG,
            client
                .remove_volume(&volume.name, Some(options))
                .at(Point::RemoveVolume),
        )
        .await
        {
            Ok(()) => {}
            Err(call_error) if matches!(call_error.status(), Some(404 | 409)) => {}
            Err(call_error) => return Err(call_error.into_error("remove a volume")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_small_file_is_none_whatever_an_archive_holds() {
        let whole = archive();
        assert_eq!(only_file(&whole, PROGRAM.len()).as_deref(), Some(PROGRAM));
        assert_eq!(only_file(&whole, PROGRAM.len() - 1), None);
        assert_eq!(only_file(&whole[..PROGRAM.len()], PROGRAM.len()), None);
        assert_eq!(only_file(b"", 100), None);
        assert_eq!(only_file(&[0xff; 4096], 100), None);
        assert_eq!(only_file(&[0; 4096], 100), None);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Fifo);
        header.set_size(0);
        let mut pipe = tar::Builder::new(Vec::new());
        pipe.append_data(&mut header, "latch", std::io::empty())
            .unwrap();
        assert_eq!(only_file(&pipe.into_inner().unwrap(), 100), None);
    }
}
