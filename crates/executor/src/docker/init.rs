//! Getting the init into containers.
//!
//! It lies in a volume of the engine, named by its content, that every container mounts read-only:
//! that costs a few milliseconds less than copying it into each container by the archive API, and
//! asks nothing of images, not even `FROM scratch`. The volume is filled once, by the archive API,
//! through a container that is never started, and what it holds is compared before it is used, so a
//! daemon that died half-way and two that begin together do no harm.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker as Client;
use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tracing::{debug, warn};
use trainyard_core::Timestamp;
use trainyard_failpoint::{Effect as _, Flow as _, Point};
use trainyard_init::PROGRAM;

use super::create::image_gone;
use super::errors::{IDLE, LONG, Trouble, within};
use crate::contract::{Error, ErrorKind};

/// Where the volume is mounted.
pub(super) const FOLDER: &str = "/trainyard/init";

/// The init.
pub(super) const PATH: &str = "/trainyard/init/init";

/// Its latch, in the container's own layer. The folder is laid out where it cannot be made by the
/// image's user; see [`super::layout`].
pub(super) const LATCH: &str = "/trainyard/run/latch";

/// The label of the volumes.
const LABEL: &str = "io.trainyard.init.volume";

/// How often filling is tried: somebody else may be at it.
const TRIES: u32 = 5;

/// The wait between tries.
const PAUSE: Duration = Duration::from_millis(300);

/// The usual name of volume and loader, by content: versions do not get into each other's way.
pub(super) fn usual_name() -> String {
    let hash = hex::encode(Sha256::digest(PROGRAM));
    format!("trainyard-init-{}", hash.get(..16).unwrap_or(&hash))
}

/// The engine's volume with the init in it.
#[derive(Debug)]
pub(super) struct InitVolume {
    name: String,
    is_ready: AtomicBool,
    filling: Mutex<()>,
}

impl InitVolume {
    /// The volume of this name, of which nothing is known yet.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_ready: AtomicBool::new(false),
            filling: Mutex::default(),
        }
    }

    /// The name of the volume, filled. `image` is any image that the engine has.
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

    /// It turned out to be missing: whatever was known of it, it is looked at, and filled anew.
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
        .map_err(|trouble| trouble.into_error("make a volume"))?;
    let mut tries = 0;
    loop {
        tries += 1;
        match fill_by_loader(client, name, image).await {
            Ok(true) => return Ok(()),
            Ok(false) if tries < TRIES => {
                debug!("the volume of the init is filled by somebody else")
            }
            Ok(false) => {
                let message = format!("the volume {name} does not keep what is put into it");
                return Err(Error::new(ErrorKind::Engine, message));
            }
            // Somebody else was done, and removed the loader, or is about to: then its mounts are gone.
            Err(trouble)
                if tries < TRIES
                    && ["No such container", "Could not find the file"]
                        .iter()
                        .any(|words| trouble.text().contains(words)) =>
            {
                debug!(trouble = trouble.text(), "the loader of the init is gone");
            }
            Err(trouble) if trouble.text().contains("No such image") => {
                return Err(image_gone(image));
            }
            Err(trouble) => return Err(trouble.into_error("take the init of containers")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Fills the volume through a container; whether it holds the init now.
async fn fill_by_loader(client: &Client, name: &str, image: &str) -> Result<bool, Trouble> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    match within(
        LONG,
        client
            .create_container(Some(options), loader(name, image))
            .at(Point::CreateLoader),
    )
    .await
    {
        Ok(_) => {}
        // One of this name is there: left over, or somebody else's at work. It serves as well.
        Err(trouble) if trouble.status() == Some(409) => {}
        Err(trouble) => return Err(trouble),
    }
    let mut holds = content(client, name).await?.as_deref() == Some(PROGRAM);
    if !holds {
        let options = UploadToContainerOptionsBuilder::default()
            .path(FOLDER)
            .build();
        let body = bollard::body_full(Bytes::from(archive()));
        within(
            LONG,
            client
                .upload_to_container(name, Some(options), body)
                .at(Point::FillVolume),
        )
        .await?;
        holds = content(client, name).await?.as_deref() == Some(PROGRAM);
    }
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    match within(
        LONG,
        client
            .remove_container(name, Some(options))
            .at(Point::RemoveLoader),
    )
    .await
    {
        Ok(()) => {}
        Err(trouble) if matches!(trouble.status(), Some(404 | 409)) => {}
        // The next daemon uses and removes it.
        Err(trouble) => warn!(trouble = trouble.text(), "the loader of the init was left"),
    }
    Ok(holds)
}

/// A container that is never started.
fn loader(name: &str, image: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![PATH.to_owned()]),
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

/// What the volume holds as the init; `None` where there is nothing.
async fn content(client: &Client, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
    match file(client, name, PATH).await {
        Err(trouble) if is_missing(&trouble) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether the engine says that a path does not exist in a container that does.
pub(super) fn is_missing(trouble: &Trouble) -> bool {
    trouble.status() == Some(404) && !trouble.text().contains("No such container")
}

/// A small file of a container.
pub(super) async fn file(client: &Client, container: &str, path: &str) -> Result<Vec<u8>, Trouble> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(path)
        .build();
    let mut stream = std::pin::pin!(
        client
            .download_from_container(container, Some(options))
            .at(Point::FetchRecord)
    );
    let mut sent = Vec::new();
    loop {
        match tokio::time::timeout(IDLE, stream.next()).await {
            Ok(None) => break,
            Ok(Some(piece)) => sent.extend_from_slice(&piece.map_err(Trouble::from)?),
            Err(_) => return Err(Trouble::Silent("a download made no progress".to_owned())),
        }
        if sent.len() > SMALL {
            return Err(Trouble::Odd(format!("{path} is larger than it can be")));
        }
    }
    let broken = |error: std::io::Error| Trouble::Odd(error.to_string());
    let mut archive = tar::Archive::new(sent.as_slice());
    let mut members = archive.entries().map_err(broken)?;
    let Some(member) = members.next() else {
        return Err(Trouble::Odd("an archive without members".to_owned()));
    };
    let mut bytes = Vec::new();
    member
        .and_then(|mut member| member.read_to_end(&mut bytes))
        .map_err(broken)?;
    Ok(bytes)
}

/// More than any file that [`file`] is for has, in bytes.
const SMALL: usize = 1 << 20;

/// The init as an archive.
fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(PROGRAM.len() as u64);
    header.set_mode(0o555);
    // Writing to memory does not fail; half an archive would show when it is compared.
    let _ = archive.append_data(&mut header, "init", PROGRAM);
    archive.into_inner().unwrap_or_default()
}

/// Removes volumes but for `ours`, of other versions, from before a moment that no container uses.
pub(super) async fn remove_old(
    client: &Client,
    ours: &str,
    before: Timestamp,
) -> Result<(), Error> {
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
    .map_err(|trouble| trouble.into_error("list volumes"))?;
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
            Err(trouble) if matches!(trouble.status(), Some(404 | 409)) => {}
            Err(trouble) => return Err(trouble.into_error("remove a volume")),
        }
    }
    Ok(())
}
