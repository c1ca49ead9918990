//! Laying out a container's files before it starts: source tree, inputs, the folder for outputs.
//!
//! One archive is written on the fly and put into the created container; neither it nor the files in
//! it are ever in memory. Modes are widened so that a program that does not run as root can write
//! its workspace and its outputs; inputs are readable for all, and writable for root alone. Putting the
//! same files a second time gives the same result, so adoption is safe after a crash in the middle.
//! [`unstarted`] distinguishes such a container from one that was started.
//!
//! Nothing is dated before 1980 or after 2107, which a zip file cannot hold.

use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bollard::Docker as Client;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use tar::{Archive, Builder, EntryType, Header};

use super::errors::{CallError, IDLE, gone};
use super::init;
use super::labels::FirstProcess;
use super::unstarted;
use crate::blob::Blob;
use crate::error::{Error, ErrorKind};
use crate::pipe;
use crate::source;
use crate::spec::{AttemptSpec, InputSpec};
use trainyard_core::artifact::ArtifactKind;
use trainyard_failpoint::{AtPoint as _, Point};

/// The working directory, with the source tree.
pub(super) const WORKSPACE: &str = "/workspace";

/// Where declared inputs are.
pub(super) const INPUTS: &str = "/trainyard/inputs";

pub(super) const OUTPUTS: &str = "/trainyard/outputs";

/// The second day of 1980: in each time zone it is 1980 by then.
const OLDEST: u64 = 315_619_200;

/// The last day but one of 2107.
const NEWEST: u64 = 4_354_646_400;

/// The folder of the init's files, below `/`.
const RUN: &str = "trainyard/run";

/// The files of one container.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    source: Option<Arc<dyn Blob>>,
    inputs: Vec<InputSpec>,
    first: FirstProcess,
}

impl Layout {
    /// The files to lay out.
    pub(super) fn of(spec: &AttemptSpec, first: FirstProcess) -> Self {
        Self {
            source: spec.source.clone(),
            inputs: spec.inputs.clone(),
            first,
        }
    }

    /// Puts the files into a created container.
    pub(super) async fn put(self, client: &Client, container: &str) -> Result<(), Error> {
        let (mut writer, body, progress) = pipe::outgoing();
        let writing = tokio::task::spawn_blocking(move || {
            let result = self.write(&mut writer);
            writer.finish(result)
        });
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let upload = client
            .upload_to_container(container, Some(options), bollard::body_try_stream(body))
            .at(Point::Upload);
        let uploaded = tokio::select! {
            done = upload => done.map_err(CallError::from),
            () = progress.stalled(IDLE) => {
                Err(CallError::Silent("an upload made no progress".to_owned()))
            }
        };
        match writing.await {
            // Docker closed the connection first; its answer has the reason.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe && uploaded.is_err() => {}
            Ok(Err(error)) => {
                // No container can have such a member, and a retry does not change that.
                let kind = match error.kind() {
                    io::ErrorKind::InvalidData => ErrorKind::Start,
                    _ => ErrorKind::Storage,
                };
                let message = format!("the stage's files could not be laid out: {error}");
                return Err(Error::new(kind, message));
            }
            Err(error) => return Err(Error::new(ErrorKind::Engine, error.to_string())),
            Ok(Ok(())) => {}
        }
        uploaded.map_err(|call_error| match call_error.status() {
            Some(404) => gone(container),
            _ => call_error.into_error_of_container("lay out the stage's files"),
        })
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut archive = Builder::new(to);
        let is_under_init = self.first != FirstProcess::Program;
        if let FirstProcess::Init(nonce) = &self.first {
            // First of all: an upload that breaks off after a folder and before this file reads as a start.
            start(&mut archive, unstarted::unfinished(nonce))?;
        }
        folder(&mut archive, Path::new("trainyard"), 0o755)?;
        if is_under_init {
            // The init runs as the image's user, who has to make and remove files here.
            folder(&mut archive, Path::new(RUN), 0o777)?;
        }
        folder(&mut archive, Path::new("workspace"), 0o777)?;
        if let Some(source) = &self.source {
            let source = source::open(&**source)?;
            transplant(&mut archive, source, Path::new("workspace"), writable)?;
        }
        folder(&mut archive, Path::new("trainyard/inputs"), 0o755)?;
        folder(&mut archive, Path::new("trainyard/outputs"), 0o777)?;
        for input in &self.inputs {
            let to = Path::new("trainyard/inputs").join(input.name.as_str());
            match input.content.kind {
                ArtifactKind::File | ArtifactKind::Executable => {
                    let mode = read_only(false, input.content.kind == ArtifactKind::Executable);
                    let mut header = header(EntryType::Regular, mode, input.content.size);
                    let mut bytes = input.blob.open()?.take(input.content.size);
                    archive.append_data(&mut header, &to, &mut bytes)?;
                    // More or less than the header says would shift every member after it.
                    if bytes.limit() > 0 || bytes.into_inner().read(&mut [0])? > 0 {
                        return Err(odd_size(input));
                    }
                }
                ArtifactKind::Folder => {
                    folder(&mut archive, &to, 0o555)?;
                    let folder = BufReader::with_capacity(128 * 1024, input.blob.open()?);
                    transplant(&mut archive, folder, &to, read_only)?;
                }
            }
        }
        if let FirstProcess::Init(nonce) = &self.first {
            // It replaces the one before: now everything is laid out.
            start(&mut archive, nonce.start_half())?;
        }
        archive.into_inner()?.flush()
    }
}

/// The file without which the init runs nothing.
fn start(archive: &mut Builder<impl Write>, content: &str) -> io::Result<()> {
    let mut header = header(EntryType::Regular, 0o444, content.len() as u64);
    let path = Path::new(init::START).strip_prefix("/");
    archive.append_data(
        &mut header,
        path.map_err(io::Error::other)?,
        content.as_bytes(),
    )
}

fn folder(archive: &mut Builder<impl Write>, path: &Path, mode: u32) -> io::Result<()> {
    let mut header = header(EntryType::Directory, mode, 0);
    archive.append_data(&mut header, path, io::empty())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(OLDEST);
    header
}

/// The nearest time that a zip file can hold.
pub(super) fn dated(seconds: u64) -> u64 {
    seconds.clamp(OLDEST, NEWEST)
}

/// The mode for a file or folder that any user may change.
fn writable(is_folder: bool, executable: bool) -> u32 {
    if is_folder || executable {
        0o777
    } else {
        0o666
    }
}

/// The mode for a file or folder that only root may change.
fn read_only(is_folder: bool, executable: bool) -> u32 {
    if is_folder || executable {
        0o555
    } else {
        0o444
    }
}

/// Copies the members of the archive `from` below `to`.
fn transplant(
    archive: &mut Builder<impl Write>,
    from: impl Read,
    to: &Path,
    mode: fn(bool, bool) -> u32,
) -> io::Result<()> {
    let mut source = Archive::new(from);
    for entry in source.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let Some(path) = below(to, &entry.path()?)? else {
            continue;
        };
        let executable = entry.header().mode().unwrap_or_default() & 0o111 != 0;
        let mut header = header(kind, mode(kind.is_dir(), executable), 0);
        header.set_mtime(dated(entry.header().mtime().unwrap_or_default()));
        match kind {
            EntryType::Directory => archive.append_data(&mut header, &path, io::empty())?,
            EntryType::Regular | EntryType::Continuous => {
                header.set_size(entry.size());
                archive.append_data(&mut header, &path, entry.by_ref())?;
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                let target = match below(to, &target) {
                    // A hard link names a member of the archive, a symbolic link any path at all.
                    Ok(Some(member)) if kind == EntryType::Link => member,
                    _ if kind == EntryType::Link => return Err(unsafe_member(&path)),
                    _ => target,
                };
                archive.append_link(&mut header, &path, &target)?;
            }
            // Comments of git and of other tar programs.
            EntryType::XGlobalHeader | EntryType::XHeader => {}
            _ => return Err(unsafe_member(&path)),
        }
    }
    Ok(())
}

/// Where a member goes; `None` for the folder itself.
fn below(to: &Path, member: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = to.to_owned();
    let mut moved = false;
    for part in member.components() {
        match part {
            Component::Normal(name) => {
                path.push(name);
                moved = true;
            }
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(unsafe_member(member));
            }
        }
    }
    Ok(moved.then_some(path))
}

fn odd_size(input: &InputSpec) -> io::Error {
    let InputSpec { name, content, .. } = input;
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("input {name} does not have its {} bytes", content.size),
    )
}

fn unsafe_member(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "`{}` is neither a file, a folder nor a link, or leads out of its folder",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::blob::InMemory;
    use crate::spec::tests::spec;

    /// Modes and contents by name; checks the times.
    fn members(layout: &Layout) -> BTreeMap<String, (u32, String)> {
        let mut bytes = Vec::new();
        layout.write(&mut bytes).unwrap();
        Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let mode = entry.header().mode().unwrap();
                let time = entry.header().mtime().unwrap();
                assert!((OLDEST..=NEWEST).contains(&time), "{path}: {time}");
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                (path, (mode, content))
            })
            .collect()
    }

    fn content(bytes: &[u8]) -> Arc<dyn Blob> {
        Arc::new(InMemory::from(bytes.to_vec()))
    }

    fn source() -> Arc<dyn Blob> {
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o755);
        archive
            .append_data(&mut header, "bin/run.sh", &b"hi"[..])
            .unwrap();
        header.set_mode(0o600);
        archive
            .append_data(&mut header, "note", &b"no"[..])
            .unwrap();
        content(&archive.into_inner().unwrap())
    }

    #[test]
    fn files_of_the_workspace_can_be_written_by_any_user_and_inputs_by_none() {
        let mut spec = spec();
        spec.source = Some(source());
        spec.inputs[0].blob = content(b"data");
        let mut tool = spec.inputs[0].clone();
        tool.name = "tool".parse().unwrap();
        tool.content.kind = ArtifactKind::Executable;
        spec.inputs.push(tool);
        let members = members(&Layout::of(&spec, FirstProcess::Program));
        let mode = |path: &str| {
            members
                .get(path)
                .unwrap_or_else(|| panic!("{path}: {members:?}"))
                .0
        };
        assert_eq!(mode("workspace"), 0o777);
        assert_eq!(mode("workspace/bin/run.sh"), 0o777);
        assert_eq!(mode("workspace/note"), 0o666);
        assert_eq!(mode("trainyard/inputs/raw"), 0o444);
        assert_eq!(mode("trainyard/inputs/tool"), 0o555);
        assert_eq!(mode("trainyard/outputs"), 0o777);
        assert_eq!(members["trainyard/inputs/raw"].1, "data");
    }

    #[test]
    fn an_unfinished_start_file_comes_before_everything_and_the_whole_one_after() {
        let nonce = trainyard_init::Nonce::new([7; 32]);
        let mut spec = spec();
        spec.source = None;
        spec.inputs.clear();
        let mut bytes = Vec::new();
        Layout::of(&spec, FirstProcess::Init(nonce.clone()))
            .write(&mut bytes)
            .unwrap();
        let members: Vec<(String, String)> = Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect();
        let start = |content: &str| {
            let path = init::START.trim_start_matches('/').to_owned();
            Some((path, content.to_owned()))
        };
        assert_eq!(
            members.first().cloned(),
            start(unstarted::unfinished(&nonce))
        );
        assert_eq!(members.last().cloned(), start(nonce.start_half()));
    }

    #[test]
    fn the_folders_for_inputs_and_outputs_are_there_without_any() {
        let mut spec = spec();
        spec.source = None;
        spec.inputs.clear();
        let members = members(&Layout::of(&spec, FirstProcess::Program));
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        let expected = [
            "trainyard",
            "trainyard/inputs",
            "trainyard/outputs",
            "workspace",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn an_input_of_another_size_than_was_recorded_is_not_laid_out() {
        for bytes in [&b"dat"[..], b"data and more"] {
            let mut spec = spec();
            spec.source = None;
            spec.inputs[0].blob = content(bytes);
            let written = Layout::of(&spec, FirstProcess::Program).write(&mut Vec::new());
            let error = written.unwrap_err().to_string();
            assert_eq!(error, "input raw does not have its 4 bytes");
        }
    }

    #[test]
    fn a_source_tree_that_leads_out_of_its_folder_is_refused() {
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.as_mut_bytes()[..6].copy_from_slice(b"../out");
        header.set_cksum();
        archive.append(&header, io::empty()).unwrap();
        let tree = archive.into_inner().unwrap();
        let refused = transplant(
            &mut Builder::new(Vec::new()),
            tree.as_slice(),
            Path::new("workspace"),
            writable,
        );
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
