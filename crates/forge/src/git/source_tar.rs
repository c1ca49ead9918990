//! The source tree of a commit as a tar archive, compressed by zstd.
//!
//! It is compressed: files of nothing but zeros, which git packs into a few bytes, take as little here.
//!
//! Two archives of one commit are equal byte for byte: names in git's order, times those of the commit, no owners. As
//! with `git archive`, files keep only their executable bit, a submodule is an empty folder, and a pointer of Git LFS
//! stays as it is, unless its contents are wanted; both are reported.
//!
//! git accepts any bytes as a name, a remote may send any object, and the archive is unpacked as files. So a name
//! that would lead out of the tree, or into a repository's own `.git`, ends the writing. So does a duplicate name: as
//! a link first and a folder after, it would lead out. Links may point anywhere; nothing can be written through them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use git2::{Oid, Repository};
use tar::{EntryType, Header};
use tempfile::NamedTempFile;
use zstd::Encoder;

use super::kept_modules::{self, InUse};
use super::lfs::{self, Lfs, Pointer};
use super::limits::Watch;
use super::modules::{self, Modules};
use super::objects::{Kind, Objects, find_commit};
use super::stand_ins::StandIns;
use super::{CancelFlag, CommitSha, Contents, Credentials, Error, Mirror, RemoteUrl};
use crate::one_line::one_line;

/// The most names in one archive.
pub const MAX_NAMES: usize = 300_000;

/// The largest file, in bytes: libgit2 holds one file at a time in memory.
const MAX_FILE_BYTES: usize = 512 << 20;

/// The most bytes of files in one archive.
pub const MAX_BYTES: u64 = 8 << 30;

/// How deep folders may be nested, and how long a path may be, in bytes.
const MAX_DEPTH: usize = 200;
const LONGEST_PATH: usize = 4096;

/// The end of an unfinished archive's name.
const UNFINISHED: &str = ".part";

/// zstd's fastest: an archive is written once, and read a few times soon after.
const LEVEL: i32 = 1;

/// The last second that a plain tar header has room for: in the year 2242.
const LATEST: u64 = 0o77_777_777_777;

impl Mirror {
    /// Writes the tree of a commit to the file `to`, which appears only when it is complete. Returns the
    /// stand-ins in it.
    ///
    /// # Errors
    /// [`Error::UnsafeTree`], [`Error::TooLarge`], [`Error::Disk`], [`Error::UnknownReference`],
    /// [`Error::NotFetched`]; as [`Mirror::fetch`], where contents are to be fetched.
    pub fn write_source_tar(
        &self,
        commit: &CommitSha,
        to: &Path,
        contents: Option<&Contents>,
        cancel: &CancelFlag,
    ) -> Result<StandIns, Error> {
        let watch = Arc::new(Watch::start(self.limits, cancel.clone()));
        let url = contents.map(|it| RemoteUrl::parse(&it.url, &self.rules));
        let url = url.transpose()?;
        let repository = self.open()?;
        let found = find_commit(&repository, commit)?;
        let folder = to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|error| cannot_write(&error))?;
        let file = tempfile::Builder::new()
            .prefix(&unfinished(to))
            .suffix(UNFINISHED)
            .tempfile_in(folder)
            .map_err(|error| cannot_write(&error))?;
        let compressed = Encoder::new(BufWriter::new(file), LEVEL);
        let compressed = compressed.map_err(|error| cannot_write(&error))?;
        let mut level = Level {
            mirror: self,
            objects: Objects::of(&repository)?,
            url: url.as_ref(),
            lfs: None,
            modules: Modules::new(),
            begins: 0,
            nested: 0,
        };
        let credentials = contents.and_then(|contents| contents.credentials.as_ref());
        level.begin(found.tree_id(), contents, credentials, &watch)?;
        let mut archive = Archive {
            contents,
            watch: &watch,
            submodules: 0,
            tar: tar::Builder::new(compressed),
            time: u64::try_from(found.time().seconds())
                .unwrap_or(0)
                .min(LATEST),
            names: 0,
            bytes: 0,
            stand_ins: StandIns::default(),
            cancel,
        };
        archive.folder(&mut level, found.tree_id(), &mut Vec::new(), 0)?;
        let stand_ins = std::mem::take(&mut archive.stand_ins);
        archive
            .finish()
            .and_then(|file| file.persist(to).map_err(|error| error.error))
            .map_err(|error| cannot_write(&error))?;
        // The name must survive a power cut too: an archive that exists counts as complete.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| cannot_write(&error))?;
        Ok(stand_ins)
    }
}

/// The beginning of an unfinished archive's name.
fn unfinished(to: &Path) -> OsString {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name
}

/// Removes the files of an interrupted writer of `to`. A complete archive stays.
pub(super) fn remove_unfinished(to: &Path) {
    let Some(entries) = to.parent().and_then(|folder| folder.read_dir().ok()) else {
        return;
    };
    let beginning = unfinished(to);
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(beginning.as_encoded_bytes()) && name.ends_with(UNFINISHED.as_bytes()) {
            // Unused archives are removed in time, and so is this.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn cannot_write(error: &io::Error) -> Error {
    Error::disk("the source archive cannot be written", error)
}

/// One repository within the tree: the repo's own, or that of a submodule.
struct Level<'l> {
    mirror: &'l Mirror,
    objects: Objects<'l>,
    /// The remote to fetch from, if any.
    url: Option<&'l RemoteUrl>,
    lfs: Option<Lfs<'l>>,
    modules: Modules,
    /// The prefix of its paths in the tree.
    begins: usize,
    /// How many repositories contain it.
    nested: usize,
}

impl<'l> Level<'l> {
    /// Reads the list of contents to fetch for it.
    fn begin(
        &mut self,
        tree: Oid,
        contents: Option<&Contents>,
        credentials: Option<&'l Credentials>,
        watch: &'l Arc<Watch>,
    ) -> Result<(), Error> {
        let Some((contents, url)) = contents.zip(self.url) else {
            return Ok(());
        };
        if contents.lfs {
            let (path, rules) = (self.mirror.path(), &self.mirror.rules);
            self.lfs = Some(Lfs::new(&path, url, credentials, rules, watch));
        }
        if contents.submodules {
            self.modules = modules::list(&self.objects, &self.objects.tree(tree)?)?;
        }
        Ok(())
    }
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        if let Some(lfs) = &self.lfs {
            lfs.trim();
        }
    }
}

struct Archive<'a> {
    contents: Option<&'a Contents>,
    watch: &'a Arc<Watch>,
    /// How many submodules were fetched.
    submodules: usize,
    tar: tar::Builder<Encoder<'static, BufWriter<NamedTempFile>>>,
    time: u64,
    names: usize,
    bytes: u64,
    stand_ins: StandIns,
    cancel: &'a CancelFlag,
}

impl Archive<'_> {
    /// Adds the entries of a folder. `path` is the folder's own, with a slash at the end except for the root.
    fn folder(
        &mut self,
        level: &mut Level<'_>,
        id: Oid,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_large(format!("folders may be nested {MAX_DEPTH} deep")));
        }
        let tree = level.objects.tree(id)?;
        let mut seen = BTreeSet::new();
        for entry in &tree {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let name = entry.name_bytes();
            let length = path.len();
            path.extend_from_slice(name);
            refuse_unsafe(name, path)?;
            if !seen.insert(name.to_vec()) {
                return Err(unsafe_name(path, "it occurs twice"));
            }
            self.names += 1;
            if self.names > MAX_NAMES {
                return Err(too_large(format!(
                    "it may have {MAX_NAMES} files and folders"
                )));
            }
            self.entry(level, Kind::of(entry.filemode()), entry.id(), path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        level: &mut Level<'_>,
        kind: Kind,
        id: Oid,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        match kind {
            Kind::File { executable } => {
                let mode = if executable { 0o755 } else { 0o644 };
                self.file(level, id, path, mode)
            }
            Kind::Link => self.link(level, id, path),
            Kind::Submodule => {
                path.push(b'/');
                self.append(EntryType::Directory, 0o755, path, &[])?;
                self.submodule(level, id, path, depth)
            }
            Kind::Folder => {
                path.push(b'/');
                self.append(EntryType::Directory, 0o755, path, &[])?;
                self.folder(level, id, path, depth + 1)
            }
        }
    }

    /// Adds the files of a submodule, if they are wanted. `path` has a slash at its end.
    fn submodule(
        &mut self,
        level: &Level<'_>,
        id: Oid,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        let own = &path[..path.len() - 1];
        let name = shown(own);
        let known = level.modules.get(&own[level.begins..]);
        let (Some(base), Some(url)) = (level.url, known) else {
            self.stand_ins.submodules.add(&name);
            return Ok(());
        };
        if level.nested == modules::DEEPEST {
            let limit = modules::DEEPEST;
            return Err(too_large(format!("submodules may be nested {limit} deep")));
        }
        self.submodules += 1;
        if self.submodules > modules::MOST {
            let limit = modules::MOST;
            return Err(too_large(format!("it may have {limit} submodules")));
        }
        let url = modules::address(&name, url, base, &level.mirror.rules)?;
        let mirror = modules::mirror(level.mirror, &url)?;
        let commit = CommitSha::of(id);
        // Until its files are in the archive.
        let _in_use = InUse::mark(&mirror)?;
        let is_here = |repository: &Repository| find_commit(repository, &commit).is_ok();
        if !mirror.open().is_ok_and(|repository| is_here(&repository)) {
            kept_modules::trim(&mirror, kept_modules::KEPT)?;
            let _ = mirror.fetch(url.as_str(), None, self.cancel)?;
        }
        let repository = mirror.open()?;
        let found = find_commit(&repository, &commit).map_err(|_| Error::NotFound {
            url: url.to_string(),
            why: format!(
                "the submodule {name} is at {commit}, which no branch and no tag has there"
            ),
        })?;
        let mut inner = Level {
            mirror: &mirror,
            objects: Objects::of(&repository)?,
            url: Some(&url),
            lfs: None,
            modules: Modules::new(),
            begins: path.len(),
            nested: level.nested + 1,
        };
        inner.begin(found.tree_id(), self.contents, None, self.watch)?;
        self.folder(&mut inner, found.tree_id(), path, depth + 1)
    }

    fn file(
        &mut self,
        level: &mut Level<'_>,
        id: Oid,
        path: &[u8],
        mode: u32,
    ) -> Result<(), Error> {
        let size = level.objects.file_size(id)?;
        if size > MAX_FILE_BYTES {
            let limit = MAX_FILE_BYTES >> 20;
            return Err(too_large(format!("{:?} may have {limit} MiB", shown(path))));
        }
        self.count(size as u64)?;
        let mut header = self.header(EntryType::Regular, mode);
        header.set_size(size as u64);
        let file = level.objects.file(id)?;
        if lfs::is_pointer(file.data()) {
            let pointer = Pointer::read(file.data());
            if let Some((lfs, pointer)) = level.lfs.as_mut().zip(pointer) {
                drop(file);
                // Before anything is fetched.
                self.bytes = self.bytes.saturating_add(pointer.size);
                refuse_bytes(self.bytes)?;
                header.set_size(pointer.size);
                let content = lfs.content(&pointer)?;
                return self
                    .tar
                    .append_data(&mut header, OsStr::from_bytes(path), content)
                    .map_err(|error| cannot_write(&error));
            }
            self.stand_ins.pointers.add(&shown(path));
        }
        self.tar
            .append_data(&mut header, OsStr::from_bytes(path), file.data())
            .map_err(|error| cannot_write(&error))
    }

    fn count(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes);
        refuse_bytes(self.bytes)
    }

    fn link(&mut self, level: &Level<'_>, id: Oid, path: &[u8]) -> Result<(), Error> {
        if level.objects.file_size(id)? > LONGEST_PATH {
            return Err(unsafe_name(
                path,
                "its link points to a path that is too long",
            ));
        }
        let target = level.objects.file(id)?.data().to_vec();
        if target.is_empty() || target.contains(&0) {
            return Err(unsafe_name(
                path,
                "its link points to nothing that can be a path",
            ));
        }
        self.append(EntryType::Symlink, 0o777, path, &target)
    }

    /// Adds an entry without content; `target` is what a link points to.
    fn append(
        &mut self,
        kind: EntryType,
        mode: u32,
        path: &[u8],
        target: &[u8],
    ) -> Result<(), Error> {
        let mut header = self.header(kind, mode);
        let path = OsStr::from_bytes(path);
        let added = if target.is_empty() {
            self.tar.append_data(&mut header, path, io::empty())
        } else {
            self.tar
                .append_link(&mut header, path, OsStr::from_bytes(target))
        };
        added.map_err(|error| cannot_write(&error))
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header
    }

    fn finish(self) -> io::Result<NamedTempFile> {
        let mut writer = self.tar.into_inner()?.finish()?;
        writer.flush()?;
        let file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        Ok(file)
    }
}

fn refuse_unsafe(name: &[u8], path: &[u8]) -> Result<(), Error> {
    let is_git = name.eq_ignore_ascii_case(b".git");
    let why = match name {
        b"" => "it is empty",
        b"." | b".." => "it leads out of its folder",
        _ if is_git => "it would be taken for a repository's own folder",
        _ if name.contains(&b'/') || name.contains(&0) => "it holds a slash or a null byte",
        _ if path.len() > LONGEST_PATH => "its path is too long",
        _ => return Ok(()),
    };
    Err(unsafe_name(path, why))
}

fn refuse_bytes(bytes: u64) -> Result<(), Error> {
    if bytes > MAX_BYTES {
        let limit = MAX_BYTES >> 30;
        return Err(too_large(format!("its files may have {limit} GiB")));
    }
    Ok(())
}

fn unsafe_name(path: &[u8], why: &str) -> Error {
    Error::UnsafeTree {
        path: shown(path),
        why: why.to_owned(),
    }
}

fn too_large(why: String) -> Error {
    Error::TooLarge {
        what: "the source tree".to_owned(),
        why,
    }
}

fn shown(path: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(path), 200)
}
