//! Copying outputs out of an exited container onto the daemon's disk.
//!
//! The engine sends an archive; it is taken apart while it comes, so neither the archive nor a file
//! of it is ever in memory. What is written is bounded, and fit to be kept: see [`crate::archive`].

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bollard::Docker as Client;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt;
use tar::{Archive, EntryType};
use trainyard_core::stage::RelativePath;
use trainyard_failpoint::{Flow as _, Point};

use super::errors::{IDLE, OfContent, Trouble, gone};
use super::layout::OUTPUTS;
use crate::archive::{FolderArchive, HashingFile, unfit};
use crate::contract::{Collected, CollectedKind, Error, ErrorKind};
use crate::pipe;

/// Copies an output to the file `to`; `None` where there is none.
pub(super) async fn collect(
    client: &Client,
    container: &str,
    output: &RelativePath,
    to: &Path,
    limit: u64,
) -> Result<Option<Collected>, Error> {
    let path = if output.is_root() {
        OUTPUTS.to_owned()
    } else {
        format!("{OUTPUTS}/{output}")
    };
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(&path)
        .build();
    let mut stream = std::pin::pin!(
        client
            .download_from_container(container, Some(options))
            .at(Point::Collect)
    );
    let (sender, reader) = pipe::incoming();
    let keeping = {
        let (output, to) = (output.clone(), to.to_owned());
        tokio::task::spawn_blocking(move || keep(reader, &output, &to, limit))
    };
    let mut trouble = None;
    loop {
        let piece = match tokio::time::timeout(IDLE, stream.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => Ok(piece),
            Ok(Some(Err(error))) => Err(Trouble::from(error)),
            Err(_) => Err(Trouble::Silent("a download made no progress".to_owned())),
        };
        let (piece, ended) = match piece {
            Ok(piece) => (Ok(piece), false),
            Err(problem) => {
                trouble = Some(problem);
                (Err(std::io::ErrorKind::ConnectionReset.into()), true)
            }
        };
        // The other side hangs up when it found something wrong; it says what.
        if sender.send(piece).await.is_err() || ended {
            break;
        }
    }
    drop(sender);
    let kept = keeping
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Engine, error.to_string())));
    match trouble {
        None => kept.map(Some),
        Some(trouble) if trouble.text().contains("No such container") => Err(gone(container)),
        Some(trouble) => match trouble.of_content() {
            // A path through a file is as missing as any other.
            Some(OfContent::Missing) => Ok(None),
            Some(OfContent::Odd) => {
                let what = "reached by links in a circle, or by names that are too long";
                Err(unfit(output, None, what))
            }
            None => Err(trouble.into_error("send an output")),
        },
    }
}

/// Takes the engine's archive apart. Its first member is the output itself.
pub(crate) fn keep(
    reader: impl Read,
    output: &RelativePath,
    to: &Path,
    limit: u64,
) -> Result<Collected, Error> {
    let broken = |error: std::io::Error| {
        Error::new(
            ErrorKind::Unreachable,
            format!("output `{output}` broke off while it was copied: {error}"),
        )
    };
    let mut archive = Archive::new(reader);
    let mut members = archive.entries().map_err(broken)?;
    let mut first = members
        .next()
        .unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()))
        .map_err(broken)?;
    let mut file = HashingFile::create(to, output, limit)?;
    match first.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let size = first.size();
            file.copy(&mut first, size)?;
            return file.finish(CollectedKind::File);
        }
        EntryType::Directory => {}
        EntryType::Symlink => {
            let what = "a symbolic link itself; declare what it leads to";
            return Err(unfit(output, None, what));
        }
        _ => return Err(unfit(output, None, "neither a file nor a folder")),
    }
    let mut folder = FolderArchive::new(file);
    for member in members {
        let mut member = member.map_err(broken)?;
        let path = without_first(&member.path().map_err(broken)?);
        let header = member.header();
        match header.entry_type() {
            EntryType::Directory => folder.folder(&path)?,
            EntryType::Regular | EntryType::Continuous => {
                let executable = header.mode().unwrap_or_default() & 0o111 != 0;
                let size = member.size();
                folder.file(&path, executable, size, &mut member.by_ref())?;
            }
            EntryType::Symlink => {
                let target = member.link_name().map_err(broken)?.unwrap_or_default();
                folder.symlink(&path, &target)?;
            }
            EntryType::Link => {
                let target = member.link_name().map_err(broken)?.unwrap_or_default();
                folder.hard_link(&path, &without_first(&target))?;
            }
            _ => return Err(folder.unfit(&path, "a device, a pipe or a socket")),
        }
    }
    folder.finish()
}

/// A member's path below the output: the engine puts the output's own name in front.
fn without_first(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .skip(1)
        .collect()
}
