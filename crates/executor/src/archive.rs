//! What a collected output is written to: bounded, hashed on the way, and the same for equal content.
//!
//! A file is kept byte by byte. A folder becomes a tar archive in which everything that differs
//! between two runs of the same program is fixed: times are zero, owners are zero, modes are 0755
//! and 0644. Entries come in the order in which they are given. Only regular files, folders, hard
//! links among them and relative symbolic links that stay inside are taken; anything else is refused
//! by its name.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use trainyard_core::stage::RelativePath;

use crate::contract::{Collected, CollectedKind, Error, ErrorKind};

/// A new file of bounded size whose content is hashed while it is written.
pub(crate) struct HashingFile {
    file: BufWriter<File>,
    hasher: Sha256,
    size: u64,
    limit: u64,
    exceeded: bool,
    output: RelativePath,
}

impl HashingFile {
    /// Opens `to`, which may exist and is overwritten, for at most `limit` bytes of `output`.
    pub(crate) fn create(to: &Path, output: &RelativePath, limit: u64) -> Result<Self, Error> {
        let file = File::create(to).map_err(|error| storage(&error))?;
        Ok(Self {
            file: BufWriter::with_capacity(128 * 1024, file),
            hasher: Sha256::new(),
            size: 0,
            limit,
            exceeded: false,
            output: output.clone(),
        })
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes).map_err(|error| self.explain(&error))
    }

    /// Appends all that `from` gives, which is expected to be `size` bytes.
    pub(crate) fn copy(&mut self, from: &mut dyn Read, size: u64) -> Result<(), Error> {
        self.refuse_early(size)?;
        let copied = io::copy(from, self).map_err(|error| self.explain(&error))?;
        if copied == size {
            Ok(())
        } else {
            Err(cut_off(&self.output))
        }
    }

    /// Flushes and tells what was written.
    pub(crate) fn finish(mut self, kind: CollectedKind) -> Result<Collected, Error> {
        self.file.flush().map_err(|error| storage(&error))?;
        Ok(Collected {
            kind,
            size: self.size,
            sha256: hex::encode(self.hasher.finalize()),
        })
    }

    fn refuse_early(&self, size: u64) -> Result<(), Error> {
        if self.size.saturating_add(size) > self.limit {
            return Err(self.too_large());
        }
        Ok(())
    }

    fn too_large(&self) -> Error {
        let Self { output, limit, .. } = self;
        Error::new(
            ErrorKind::TooLarge,
            format!("output `{output}` is larger than the {limit} bytes that are permitted"),
        )
    }

    fn explain(&self, error: &io::Error) -> Error {
        if self.exceeded {
            self.too_large()
        } else {
            read_or_written(error)
        }
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size.saturating_add(bytes.len() as u64) > self.limit {
            self.exceeded = true;
            return Err(io::Error::other("beyond the limit"));
        }
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A folder on its way into a tar archive.
pub(crate) struct FolderArchive {
    builder: tar::Builder<HashingFile>,
    files: HashSet<PathBuf>,
}

impl FolderArchive {
    /// An empty archive in `file`.
    pub(crate) fn new(file: HashingFile) -> Self {
        Self {
            builder: tar::Builder::new(file),
            files: HashSet::new(),
        }
    }

    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<(), Error> {
        self.check(path)?;
        let mut header = header(EntryType::Directory, 0o755, 0);
        let done = self.builder.append_data(&mut header, path, io::empty());
        done.map_err(|error| self.explain(&error))
    }

    /// Adds a file of `size` bytes.
    pub(crate) fn file(
        &mut self,
        path: &Path,
        executable: bool,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), Error> {
        self.check(path)?;
        self.builder.get_ref().refuse_early(size)?;
        let mode = if executable { 0o755 } else { 0o644 };
        let mut header = header(EntryType::Regular, mode, size);
        // A reader that gives less would shift every entry after it.
        let mut counted = Counted {
            inner: content.take(size),
            seen: 0,
        };
        let done = self.builder.append_data(&mut header, path, &mut counted);
        let seen = counted.seen;
        done.map_err(|error| self.explain(&error))?;
        if seen != size {
            return Err(cut_off(&self.builder.get_ref().output));
        }
        self.files.insert(path.to_owned());
        Ok(())
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        self.check(path)?;
        if !stays_inside(path, target) {
            return Err(self.unfit(path, "a symbolic link that leads out of the folder"));
        }
        let mut header = header(EntryType::Symlink, 0o777, 0);
        let done = self.builder.append_link(&mut header, path, target);
        done.map_err(|error| self.explain(&error))
    }

    /// Adds another name of a file added before.
    pub(crate) fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        self.check(path)?;
        if !self.files.contains(target) {
            return Err(self.unfit(path, "a hard link to a file outside of the folder"));
        }
        let mut header = header(EntryType::Link, 0o644, 0);
        let done = self.builder.append_link(&mut header, path, target);
        done.map_err(|error| self.explain(&error))
    }

    /// The error for a member of a kind that is not kept.
    pub(crate) fn unfit(&self, path: &Path, what: &str) -> Error {
        unfit(&self.builder.get_ref().output, Some(path), what)
    }

    /// Ends the archive and tells what was written.
    pub(crate) fn finish(mut self) -> Result<Collected, Error> {
        let ended = self.builder.finish();
        ended.map_err(|error| self.explain(&error))?;
        let file = self.builder.into_inner().map_err(|error| storage(&error))?;
        file.finish(CollectedKind::Folder)
    }

    fn check(&self, path: &Path) -> Result<(), Error> {
        let plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if plain && path.components().next().is_some() {
            Ok(())
        } else {
            Err(self.unfit(path, "named in a way that leads out of the folder"))
        }
    }

    fn explain(&self, error: &io::Error) -> Error {
        self.builder.get_ref().explain(error)
    }
}

struct Counted<R> {
    inner: R,
    seen: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.seen += read as u64;
        Ok(read)
    }
}

/// A header with everything fixed that says nothing about the content.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Whether a symbolic link at `path` leads to somewhere inside of the folder that holds both.
pub(crate) fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() as i64 - 1;
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

/// The error for an output, or a member of one, of a kind that is not kept.
pub(crate) fn unfit(output: &RelativePath, member: Option<&Path>, what: &str) -> Error {
    let member = member.map_or_else(String::new, |path| format!(": `{}`", path.display()));
    Error::new(
        ErrorKind::OutputUnfit,
        format!(
            "output `{output}` cannot be kept{member} is {what}; \
             outputs hold files, folders and links among them"
        ),
    )
}

fn cut_off(output: &RelativePath) -> Error {
    Error::new(
        ErrorKind::Engine,
        format!("output `{output}` ended before its announced size"),
    )
}

fn read_or_written(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Error::new(
            ErrorKind::Unreachable,
            format!("the output broke off while it was copied: {error}"),
        ),
        _ => storage(error),
    }
}

/// A disk's trouble in words.
pub(crate) fn storage(error: &io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
            "the disk of the daemon's data folder is full ({error}); \
             free space on it, for example with `trainyard gc`, and retry the run"
        ),
        _ => format!("the disk of the daemon's data folder is in trouble: {error}"),
    };
    Error::new(ErrorKind::Storage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(to: &Path, limit: u64) -> FolderArchive {
        let output = RelativePath::new("model").unwrap();
        FolderArchive::new(HashingFile::create(to, &output, limit).unwrap())
    }

    #[test]
    fn equal_content_has_an_equal_hash() {
        let folder = tempfile::tempdir().unwrap();
        let hash = |name: &str| {
            let mut archive = archive(&folder.path().join(name), 1 << 20);
            archive.folder(Path::new("sub")).unwrap();
            archive
                .file(Path::new("sub/a"), true, 2, &mut &b"hi"[..])
                .unwrap();
            archive
                .symlink(Path::new("latest"), Path::new("sub/a"))
                .unwrap();
            archive.finish().unwrap().sha256
        };
        assert_eq!(hash("one"), hash("two"));
    }

    #[test]
    fn a_member_that_leads_out_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = archive(&folder.path().join("a"), 1 << 20);
        let error = archive
            .symlink(Path::new("x/escape"), Path::new("../../etc/passwd"))
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::OutputUnfit);
        assert!(error.message.contains("x/escape"), "{error}");
        for path in ["../up", "/etc/passwd", ""] {
            let refused = archive.file(Path::new(path), false, 0, &mut io::empty());
            assert_eq!(refused.unwrap_err().kind, ErrorKind::OutputUnfit, "{path}");
        }
        let refused = archive.hard_link(Path::new("b"), Path::new("elsewhere"));
        assert_eq!(refused.unwrap_err().kind, ErrorKind::OutputUnfit);
    }

    #[test]
    fn an_output_beyond_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = RelativePath::new("model.bin").unwrap();
        let mut file = HashingFile::create(&folder.path().join("a"), &output, 4).unwrap();
        file.write(b"1234").unwrap();
        let error = file.write(b"5").unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        let mut archive = archive(&folder.path().join("b"), 600);
        let refused = archive.file(Path::new("a"), false, 1000, &mut io::repeat(0));
        assert_eq!(refused.unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[test]
    fn links_are_followed_on_paper_only() {
        assert!(stays_inside(Path::new("a/b"), Path::new("../c")));
        assert!(stays_inside(Path::new("a"), Path::new("./b/../c")));
        assert!(!stays_inside(Path::new("a"), Path::new("../c")));
        assert!(!stays_inside(Path::new("a/b"), Path::new("/c")));
        assert!(!stays_inside(Path::new("a"), Path::new("b/../../c/d")));
    }
}
