//! Writes a collected output: bounded, hashed on the way, and the same for equal content.
//!
//! A file is kept byte by byte. A folder becomes a tar archive with all that differs between two runs of the same
//! program fixed: times are zero, owners are zero, modes are 0755 and 0644. Entries keep the order in which they
//! are given. Only regular files, folders, hard links among them and relative symbolic links that stay inside are
//! taken; anything else is refused by its name.
//!
//! A program can make any number of files with names of any length, so both are bounded, and no name is kept
//! in memory. A symbolic link may lead up only at the beginning of its target, from the folder that it is in: after
//! a name, `..` leads up from the target of that name, in case it is a link itself.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::measure::in_units;
use trainyard_core::stage::RelativePath;

use crate::blob::BlobSink;
use crate::error::{Error, ErrorKind};

/// The most files, folders and links in a folder that is kept; source trees have the same bound.
const ENTRIES_AT_MOST: u64 = 300_000;

/// The most bytes that all their names may have.
const NAMES_AT_MOST: u64 = 64 * 1024 * 1024;

/// The longest path of a folder, seen from the container's root. The system refuses paths of 4,096 bytes, and Docker
/// leaves out all files with such a path without an error: in front of them it may see the path of its own data folder.
/// A longer path than this belongs to a folder in which a file with a name of 255 bytes could be left out.
const FOLDER_PATH_AT_MOST: usize = 3072;

/// How much of a long path is shown.
const SHOWN_OF_A_PATH: usize = 200;

/// A sink of bounded size whose content is hashed while it is written.
pub(crate) struct HashingSink {
    bytes: BufWriter<Box<dyn Write + Send>>,
    hasher: Sha256,
    size: u64,
    limit: u64,
    exceeded: bool,
    output: RelativePath,
}

impl HashingSink {
    /// Opens `to`, for at most `limit` bytes of `output`.
    pub(crate) fn create(
        to: &dyn BlobSink,
        output: &RelativePath,
        limit: u64,
    ) -> Result<Self, Error> {
        let bytes = to.create().map_err(|error| storage(&error))?;
        Ok(Self {
            bytes: BufWriter::with_capacity(128 * 1024, bytes),
            hasher: Sha256::new(),
            size: 0,
            limit,
            exceeded: false,
            output: output.clone(),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes).map_err(|error| self.explain(&error))
    }

    /// Appends all that `from` yields, which is expected to be `size` bytes.
    pub(crate) fn copy(&mut self, from: &mut dyn Read, size: u64) -> Result<(), Error> {
        self.refuse_early(size)?;
        let copied = io::copy(from, self).map_err(|error| self.explain(&error))?;
        if copied == size {
            Ok(())
        } else {
            Err(cut_off(&self.output))
        }
    }

    /// Flushes the content and returns its hash and size.
    pub(crate) fn finish(mut self, kind: ArtifactKind) -> Result<ArtifactContent, Error> {
        self.bytes.flush().map_err(|error| storage(&error))?;
        Ok(ArtifactContent {
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
        let (output, limit) = (&self.output, in_units(self.limit));
        Error::new(
            ErrorKind::TooLarge,
            format!("output `{output}` is larger than {limit}"),
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

impl Write for HashingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size.saturating_add(bytes.len() as u64) > self.limit {
            self.exceeded = true;
            return Err(io::Error::other("beyond the limit"));
        }
        let written = self.bytes.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes.flush()
    }
}

/// A folder on its way into a tar archive.
pub(crate) struct FolderArchive {
    builder: tar::Builder<HashingSink>,
    entries: u64,
    names: u64,
    /// The hashes of file names, which hard links may lead to. Their keys are random: collisions cannot be prepared.
    files: HashSet<u64>,
    hasher: RandomState,
    /// Where the folder is for the program that made it.
    root: PathBuf,
}

impl FolderArchive {
    /// An empty archive in `to`, of the folder that is at `root` for the program that made it.
    pub(crate) fn new(to: HashingSink, root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            builder: tar::Builder::new(to),
            entries: 0,
            names: 0,
            files: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn folder(&mut self, path: &Path) -> Result<(), Error> {
        self.check(path)?;
        if self.root.join(path).as_os_str().len() > FOLDER_PATH_AT_MOST {
            return Err(self.too_deep(path));
        }
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
        // A reader that yields less would shift every entry after it.
        let mut content = content.take(size);
        let done = self.builder.append_data(&mut header, path, &mut content);
        let missing = content.limit();
        done.map_err(|error| self.explain(&error))?;
        if missing > 0 {
            return Err(cut_off(&self.builder.get_ref().output));
        }
        self.files.insert(self.hasher.hash_one(path));
        Ok(())
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        self.check(path)?;
        // Absolute paths of files in the folder are as good as relative ones, but not where the folder is read.
        let within = target.strip_prefix(&self.root).ok();
        let target = &within.map_or_else(|| target.to_owned(), |rest| relative_to(path, rest));
        if leads_up_behind_a_name(target) {
            let what =
                "a symbolic link with `..` behind a name in its target, which may be a link, too";
            return Err(self.unfit(path, what));
        }
        if !stays_inside(path, target) {
            return Err(self.unfit(path, "a symbolic link that leads out of the folder"));
        }
        self.names += target.as_os_str().len() as u64;
        let mut header = header(EntryType::Symlink, 0o777, 0);
        let done = self.builder.append_link(&mut header, path, target);
        done.map_err(|error| self.explain(&error))
    }

    /// Adds another name of a file added before.
    pub(crate) fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        self.check(path)?;
        if !self.files.contains(&self.hasher.hash_one(target)) {
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

    /// Ends the archive and returns its hash and size.
    pub(crate) fn finish(mut self) -> Result<ArtifactContent, Error> {
        let ended = self.builder.finish();
        ended.map_err(|error| self.explain(&error))?;
        let written = self.builder.into_inner().map_err(|error| storage(&error))?;
        written.finish(ArtifactKind::Folder)
    }

    fn check(&mut self, path: &Path) -> Result<(), Error> {
        self.entries += 1;
        self.names += path.as_os_str().len() as u64;
        let output = &self.builder.get_ref().output;
        if self.entries > ENTRIES_AT_MOST {
            return Err(too_many(
                output,
                &format!("more than {ENTRIES_AT_MOST} files, folders and links"),
            ));
        }
        if self.names > NAMES_AT_MOST {
            let mebibytes = NAMES_AT_MOST >> 20;
            return Err(too_many(
                output,
                &format!("more than {mebibytes} MiB of names"),
            ));
        }
        let plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if plain && path.components().next().is_some() {
            Ok(())
        } else {
            Err(self.unfit(path, "named in a way that leads out of the folder"))
        }
    }

    fn too_deep(&self, path: &Path) -> Error {
        let output = &self.builder.get_ref().output;
        let shown: String = path
            .to_string_lossy()
            .chars()
            .take(SHOWN_OF_A_PATH)
            .collect();
        Error::new(
            ErrorKind::OutputUnfit,
            format!(
                "output `{output}` cannot be kept: the folder `{shown}…` in it has a path of more than \
                 {FOLDER_PATH_AT_MOST} bytes, and Docker may leave out files below it; use shorter names or fewer levels"
            ),
        )
    }

    fn explain(&self, error: &io::Error) -> Error {
        self.builder.get_ref().explain(error)
    }
}

/// A header with everything fixed that is not content.
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

/// The target of a symbolic link at `path` that leads to `target`, both from the same folder.
fn relative_to(path: &Path, target: &Path) -> PathBuf {
    let depth = path.components().count().saturating_sub(1);
    let up = std::iter::repeat_n(Component::ParentDir, depth);
    up.chain(target.components()).collect()
}

/// Whether a symbolic link at `path` leads to somewhere inside of the folder that holds both, by its text.
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

fn leads_up_behind_a_name(target: &Path) -> bool {
    let parts = target.components();
    parts
        .skip_while(|part| !matches!(part, Component::Normal(_)))
        .any(|part| part == Component::ParentDir)
}

/// The error for an output, or a member of one, of a kind that is not kept.
pub(crate) fn unfit(output: &RelativePath, member: Option<&Path>, what: &str) -> Error {
    let member = member.map_or_else(
        || "it".to_owned(),
        |path| format!("`{}` in it", shortened(path)),
    );
    Error::new(
        ErrorKind::OutputUnfit,
        format!(
            "output `{output}` cannot be kept: {member} is {what}; \
             outputs hold files, folders and links among them"
        ),
    )
}

/// A path for a message: its first folders, where it is long. None of its names is cut, as redaction does not know half
/// a secret.
fn shortened(path: &Path) -> String {
    const LONGEST: usize = 255;
    let whole = path.to_string_lossy();
    if whole.len() <= LONGEST {
        return whole.into_owned();
    }
    let end = whole.floor_char_boundary(LONGEST);
    let end = whole[..end].rfind('/').map_or(0, |slash| slash + 1);
    format!("{}…", &whole[..end])
}

fn too_many(output: &RelativePath, what: &str) -> Error {
    Error::new(
        ErrorKind::OutputUnfit,
        format!(
            "output `{output}` cannot be kept: it holds {what}; put them into an archive, or declare less of it"
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

/// The error for a failed write to the daemon's disk.
pub(crate) fn storage(error: &io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
            "the disk of the daemon's data folder is full ({error}); \
             free space on it, for example with `trainyard gc`, and retry the run"
        ),
        _ => format!("the disk of the daemon's data folder failed: {error}"),
    };
    Error::new(ErrorKind::Storage, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::InMemory;

    fn archive(limit: u64) -> FolderArchive {
        let output = RelativePath::new("model").unwrap();
        let to = HashingSink::create(&InMemory::default(), &output, limit).unwrap();
        FolderArchive::new(to, Path::new("/trainyard/outputs/model"))
    }

    #[test]
    fn equal_content_has_an_equal_hash() {
        let hash = || {
            let mut archive = archive(1 << 20);
            archive.folder(Path::new("sub")).unwrap();
            archive
                .file(Path::new("sub/a"), true, 2, &mut &b"hi"[..])
                .unwrap();
            archive
                .symlink(Path::new("latest"), Path::new("sub/a"))
                .unwrap();
            archive.finish().unwrap().sha256
        };
        assert_eq!(hash(), hash());
    }

    #[test]
    fn a_member_that_leads_out_is_refused_by_name() {
        let mut archive = archive(1 << 20);
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
    fn class_12_a_chain_of_links_does_not_lead_out() {
        let mut archive = archive(1 << 20);
        let mut link =
            |path: &str, target: &str| archive.symlink(Path::new(path), Path::new(target));
        // Each stays inside by its text.
        assert_eq!(link("x/a/y", "../.."), Ok(()));
        let refused = link("z", "x/a/y/../evil").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::OutputUnfit);
        assert!(refused.message.contains("`z` in it"), "{refused}");
        for (path, target) in [
            ("z", "x/../x"),
            ("x/z", "./a/.."),
            ("x/z", "../x/a/y/../../.."),
            ("z", "/etc/passwd"),
            ("z", "/trainyard/outputs/model/../other"),
            ("z", ".."),
        ] {
            assert!(link(path, target).is_err(), "{path} -> {target}");
        }
        // Links as in caches of models, dangling links and circles lead to nothing outside.
        for (path, target) in [
            ("snapshots/1/model", "../../blobs/abc"),
            ("latest", "./snapshots/1"),
            ("gone", "nowhere"),
            ("circle", "circle"),
            ("c/last", "/trainyard/outputs/model/c/epoch9"),
        ] {
            assert_eq!(link(path, target), Ok(()), "{path} -> {target}");
        }
    }

    #[test]
    fn class_12_the_number_of_files_and_the_length_of_their_names_are_bounded() {
        let refusal = |path: &dyn Fn(u64) -> PathBuf| {
            let mut archive = archive(1 << 40);
            let mut added = 0;
            loop {
                // Names alone: the size bound of an output covers what they cost on disk.
                match archive.check(&path(added)) {
                    Ok(()) => added += 1,
                    Err(error) => return (added, error),
                }
            }
        };
        let (added, error) = refusal(&|n| PathBuf::from(n.to_string()));
        assert_eq!((added, error.kind), (300_000, ErrorKind::OutputUnfit));
        assert!(error.message.contains("output `model`"), "{error}");
        assert!(error.message.contains("more than 300000 files"), "{error}");
        let long = PathBuf::from("d".repeat(4000));
        let (added, error) = refusal(&|_| long.clone());
        assert_eq!(added, (64 << 20) / 4000);
        assert!(
            error.message.contains("more than 64 MiB of names"),
            "{error}"
        );
    }

    #[test]
    fn class_12_a_folder_so_deep_that_docker_leaves_out_its_files_is_refused_by_name() {
        let mut archive = archive(1 << 20);
        let mut path = PathBuf::new();
        let refused = loop {
            path.push("d".repeat(200));
            if let Err(refused) = archive.folder(&path) {
                break refused;
            }
        };
        assert_eq!(refused.kind, ErrorKind::OutputUnfit);
        assert!(refused.message.contains(&"d".repeat(200)), "{refused}");
        assert!(
            refused.message.contains("Docker may leave out files"),
            "{refused}"
        );
        // Docker still sees a file with the longest name in the folder before, wherever its own data folder is.
        let before = Path::new("/trainyard/outputs/model").join(path.parent().unwrap());
        assert!(before.as_os_str().len() + 256 + 512 < 4096);
        assert!(before.as_os_str().len() > 2800, "it refuses no usual path");
    }

    #[test]
    fn class_12_a_long_path_is_shortened_in_a_message_and_no_name_of_it_is_cut() {
        let output = RelativePath::new("o").unwrap();
        let name = "\u{1}".repeat(99);
        let path = PathBuf::from(vec![&*name; 38].join("/"));
        let message = unfit(&output, Some(&path), "a pipe").message;
        assert!(message.contains(&format!("`{name}/{name}/…` in it is a pipe")));
        let path = PathBuf::from("s".repeat(300));
        let message = unfit(&output, Some(&path), "a pipe").message;
        assert!(message.contains("`…` in it is a pipe"), "{message}");
    }

    #[test]
    fn what_is_wrong_with_an_output_is_said_in_a_sentence() {
        let output = RelativePath::new("o").unwrap();
        assert_eq!(
            unfit(&output, None, "a socket").message,
            "output `o` cannot be kept: it is a socket; outputs hold files, folders and links among them"
        );
    }

    #[test]
    fn a_link_by_a_whole_path_into_its_folder_becomes_relative() {
        let (link, file) = (Path::new("c/last"), Path::new("c/epoch9"));
        assert_eq!(relative_to(link, file), Path::new("../c/epoch9"));
        assert_eq!(relative_to(Path::new("last"), file), file);
    }

    #[test]
    fn an_output_beyond_the_limit_is_refused() {
        let output = RelativePath::new("model.bin").unwrap();
        let mut file = HashingSink::create(&InMemory::default(), &output, 4).unwrap();
        file.write(b"1234").unwrap();
        let error = file.write(b"5").unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        let mut archive = archive(600);
        let refused = archive.file(Path::new("a"), false, 1000, &mut io::repeat(0));
        assert_eq!(refused.unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[test]
    fn links_are_followed_on_paper_only() {
        assert!(stays_inside(Path::new("a/b"), Path::new("../c")));
        assert!(!stays_inside(Path::new("a"), Path::new("../c")));
        assert!(!stays_inside(Path::new("a/b"), Path::new("/c")));
        assert!(!stays_inside(Path::new("a"), Path::new("b/../../c/d")));
    }
}
