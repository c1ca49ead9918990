//! Copies outputs out of an exited container.
//!
//! Docker sends an archive; it is unpacked while it arrives, so neither the archive nor a file of it is
//! ever in memory. The result is bounded, and checked: see [`crate::archive`].

use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker as Client;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tar::{Archive, EntryType, Header};
use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::stage::RelativePath;
use trainyard_failpoint::{Flow as _, Point};

use super::errors::{CallError, IDLE, OfContent, gone};
use super::layout::OUTPUTS;
use super::status;
use crate::archive::{FolderArchive, HashingSink, unfit};
use crate::blob::BlobSink;
use crate::contract::StageFolder;
use crate::error::{Error, ErrorKind};
use crate::pipe;

/// The most links from an output to the file or folder that they lead to.
const LINKS_AT_MOST: usize = 8;

/// How long names of files are searched for, the most that are found, and the longest of them, in bytes: they are
/// for hints only, and Docker sends them with all content in between.
const NAMES_WITHIN: Duration = Duration::from_secs(5);
const NAMES_AT_MOST: usize = 20_000;
const NAME_LONGEST: usize = 256;

/// The kind of an output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A file or folder, which was copied.
    Copied(ArtifactContent),
    /// A symbolic link, and its target.
    Link(PathBuf),
}

/// Copies an output to `to`; `None` where it does not exist. A symbolic link is followed while its target
/// is in the outputs' folder.
pub(super) async fn collect(
    client: &Client,
    container: &str,
    output: &RelativePath,
    to: &Arc<dyn BlobSink>,
    limit: u64,
) -> Result<Option<ArtifactContent>, Error> {
    let mut at = output.clone();
    for _ in 0..=LINKS_AT_MOST {
        let target = match copy(client, container, output, &at, to, limit).await? {
            Some(Kept::Copied(collected)) => return Ok(Some(collected)),
            Some(Kept::Link(target)) => target,
            None if at == *output => return Ok(None),
            None => {
                let what = format!("a symbolic link to `{at}` in $OUTPUTS, which does not exist");
                return Err(unfit(output, None, &what));
            }
        };
        at = led_to(&at, &target).ok_or_else(|| {
            let what = format!(
                "a symbolic link to `{}`, which is outside of $OUTPUTS",
                target.display()
            );
            unfit(output, None, &what)
        })?;
    }
    Err(unfit(
        output,
        None,
        "a symbolic link that leads in a circle",
    ))
}

/// The target of a symbolic link within the outputs' folder.
fn led_to(link: &RelativePath, target: &Path) -> Option<RelativePath> {
    let mut path: Vec<&str> = Vec::new();
    let rest = match target.strip_prefix(OUTPUTS) {
        Ok(rest) => rest,
        Err(_) => {
            path = link.as_str().split('/').collect();
            path.pop();
            target
        }
    };
    for part in rest.components() {
        match part {
            Component::Normal(name) => path.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(path.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    RelativePath::new(&path.join("/")).ok()
}

async fn copy(
    client: &Client,
    container: &str,
    output: &RelativePath,
    at: &RelativePath,
    to: &Arc<dyn BlobSink>,
    limit: u64,
) -> Result<Option<Kept>, Error> {
    let path = if at.is_root() {
        OUTPUTS.to_owned()
    } else {
        format!("{OUTPUTS}/{at}")
    };
    let mut stream = std::pin::pin!(download(client, container, &path));
    let (sender, reader) = pipe::incoming();
    let keeping = {
        let (output, to) = (output.clone(), Arc::clone(to));
        tokio::task::spawn_blocking(move || keep(reader, &output, Path::new(&path), &*to, limit))
    };
    let mut call_error = None;
    loop {
        let piece = match tokio::time::timeout(IDLE, stream.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => Ok(piece),
            Ok(Some(Err(error))) => Err(CallError::from(error)),
            Err(_) => Err(CallError::Silent("a download made no progress".to_owned())),
        };
        let (piece, ended) = match piece {
            Ok(piece) => (Ok(piece), false),
            Err(problem) => {
                call_error = Some(problem);
                (Err(std::io::ErrorKind::ConnectionReset.into()), true)
            }
        };
        // The reader closes the pipe when it finds a fault; its result has the reason.
        if sender.send(piece).await.is_err() || ended {
            break;
        }
    }
    drop(sender);
    let kept = keeping
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Engine, error.to_string())));
    match call_error {
        None => kept.map(Some),
        Some(call_error) if call_error.text().contains("No such container") => Err(gone(container)),
        Some(call_error) => match call_error.of_content() {
            // A path through a file counts as missing.
            Some(OfContent::Missing) => Ok(None),
            Some(OfContent::Odd) => {
                let what = "reached by links in a circle, or by names that are too long";
                Err(unfit(output, None, what))
            }
            None => Err(call_error.into_error("send an output")),
        },
    }
}

/// The archive in which Docker sends a file or folder.
fn download(
    client: &Client,
    container: &str,
    path: &str,
) -> impl Stream<Item = Result<Bytes, bollard::errors::Error>> + use<> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path(path)
        .build();
    client
        .download_from_container(container, Some(options))
        .at(Point::Collect)
}

/// The names of files and folders below a folder, as many as are found in time.
pub(super) async fn files(
    client: &Client,
    container: &str,
    folder: StageFolder,
) -> Result<Vec<String>, Error> {
    let path = match folder {
        StageFolder::Outputs => OUTPUTS.to_owned(),
        StageFolder::Working => {
            let found = status::inspect(client, container).await?;
            let config = found.and_then(|found| found.config);
            let working = config.and_then(|config| config.working_dir);
            working.unwrap_or_else(|| "/".to_owned())
        }
    };
    let stream = download(client, container, &path);
    let (sender, reader) = pipe::incoming();
    let naming = tokio::task::spawn_blocking(move || names(reader));
    let sending = async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(Ok(piece)) = stream.next().await {
            if sender.send(Ok(piece)).await.is_err() {
                break;
            }
        }
    };
    // However reading ended: the names up to there are good.
    let _ = tokio::time::timeout(NAMES_WITHIN, sending).await;
    naming
        .await
        .map_err(|error| Error::new(ErrorKind::Engine, error.to_string()))
}

/// The names in an archive that may be cut off.
fn names(reader: impl Read) -> Vec<String> {
    let mut archive = Archive::new(reader);
    let members = archive.entries().into_iter().flatten();
    let names = members.map_while(Result::ok).filter_map(|member| {
        let path = without_first(&member.path().ok()?);
        let name = path.to_str()?;
        let is_plain = name.len() <= NAME_LONGEST && !name.contains(char::is_control);
        (is_plain && !name.is_empty()).then(|| name.to_owned())
    });
    names.take(NAMES_AT_MOST).collect()
}

/// Unpacks Docker's archive. Its first member is the output itself.
/// `path` is the output's place in its container.
pub(crate) fn keep(
    reader: impl Read,
    output: &RelativePath,
    path: &Path,
    to: &dyn BlobSink,
    limit: u64,
) -> Result<Kept, Error> {
    let broken = |error: std::io::Error| {
        Error::new(
            ErrorKind::Unreachable,
            format!("output `{output}` broke off while it was copied: {error}"),
        )
    };
    let mut archive = Archive::new(reader);
    let mut members = archive.entries().map_err(broken)?;
    let Some(first) = members.next() else {
        // Docker leaves sockets out of its archives.
        return Err(unfit(output, None, "a socket"));
    };
    let mut first = first.map_err(broken)?;
    let mut file = HashingSink::create(to, output, limit)?;
    match first.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let kind = match is_executable(first.header()) {
                true => ArtifactKind::Executable,
                false => ArtifactKind::File,
            };
            let size = first.size();
            file.copy(&mut first, size)?;
            return file.finish(kind).map(Kept::Copied);
        }
        EntryType::Directory => {}
        EntryType::Symlink => {
            let target = first.link_name().map_err(broken)?.unwrap_or_default();
            return Ok(Kept::Link(target.into_owned()));
        }
        kind => return Err(unfit(output, None, odd(kind))),
    }
    let mut folder = FolderArchive::new(file, path);
    for member in members {
        let mut member = member.map_err(broken)?;
        let path = without_first(&member.path().map_err(broken)?);
        let header = member.header();
        match header.entry_type() {
            EntryType::Directory => folder.folder(&path)?,
            EntryType::Regular | EntryType::Continuous => {
                let executable = is_executable(header);
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
            kind => return Err(folder.unfit(&path, odd(kind))),
        }
    }
    folder.finish().map(Kept::Copied)
}

fn is_executable(member: &Header) -> bool {
    member.mode().unwrap_or_default() & 0o111 != 0
}

/// The kind of a member that cannot be kept.
fn odd(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Fifo => "a named pipe",
        EntryType::Block | EntryType::Char => "a device",
        _ => "neither a file nor a folder",
    }
}

/// A member's path below the output: Docker puts the output's own name in front.
fn without_first(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .skip(1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::InMemory;

    #[test]
    fn what_docker_sends_nothing_of_is_a_socket() {
        let output = RelativePath::new("s").unwrap();
        let nothing = [0; 1024];
        let to = InMemory::default();
        let kept = keep(&nothing[..], &output, Path::new("/s"), &to, 10);
        assert!(kept.unwrap_err().message.contains("it is a socket"));
    }

    #[test]
    fn a_link_leads_to_something_in_the_outputs_or_to_nothing() {
        for (link, target, to) in [
            ("last.ckpt", "epoch9.ckpt", Some("epoch9.ckpt")),
            ("c/last.ckpt", "./epoch9.ckpt", Some("c/epoch9.ckpt")),
            ("c/last.ckpt", "../epoch9.ckpt", Some("epoch9.ckpt")),
            ("last", "/trainyard/outputs/c/e9", Some("c/e9")),
            ("c/last", "../../inputs/raw", None),
            ("last", "/etc/passwd", None),
            ("last", "/trainyard/outputs-of-others/x", None),
            ("last", "/trainyard/outputs/../inputs/raw", None),
            ("last", ".", None),
        ] {
            let path = RelativePath::new(link).unwrap();
            let led = led_to(&path, Path::new(target));
            assert_eq!(
                led.as_ref().map(RelativePath::as_str),
                to,
                "{link} -> {target}"
            );
        }
    }
}
