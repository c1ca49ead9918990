//! The source tree of a file that is run by hand. In a repository: the files that git would check out, as
//! they are on the disk, and new files that are not ignored. Elsewhere: the folder's files, without those
//! that its `.gitignore` names.
//!
//! A folder named `.trainyard`, where `trainyard dev` keeps its data, is never a part of it. Outside of a repository,
//! a home folder and those above it are not source trees: stages get the DAG file alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Bound::{Included, Unbounded};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tar::{Builder, EntryType, Header};
use trainyard_core::measure::in_units;
use trainyard_dagfile::Entry;
use trainyard_forge::git::{CheckedOut, MAX_BYTES, MAX_NAMES, StandIns, Unignored, WorkTree};

/// Never a part of a source tree.
const LEFT_OUT: [&str; 2] = [".git", ".trainyard"];

/// The time of all files, one that zip, make and all time zones accept, so that equal trees make equal archives.
const DATED: u64 = 1_000_000_000;

/// A source tree that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkingTree {
    root: PathBuf,
    /// Files and symbolic links, relative to the root.
    files: BTreeSet<PathBuf>,
    /// Folders, relative to the root; those of files need not be among them.
    folders: BTreeSet<PathBuf>,
    /// The folders that are git submodules, which are laid out empty.
    submodules: BTreeSet<PathBuf>,
    /// Whether it is the DAG file alone, since the folder around it is not a source tree.
    pub is_file_alone: bool,
    /// Whether it is the tree of a git repository.
    pub is_of_git: bool,
}

impl WorkingTree {
    /// The source tree that a DAG file belongs to: its git work tree; else the folder that holds `dags/`; else the
    /// file's own folder. Blocking.
    ///
    /// # Errors
    /// The file is not there, or a folder or repository cannot be read.
    pub fn of(file: &Path) -> io::Result<Self> {
        let file = file.canonicalize()?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        if let Some(tree) = WorkTree::around(folder)? {
            let is_kept = |path: &PathBuf| !path.iter().any(is_left_out);
            let submodules: BTreeSet<_> = tree.submodules.into_iter().filter(is_kept).collect();
            return Ok(Self {
                root: tree.root,
                files: tree.files.into_iter().filter(is_kept).collect(),
                folders: submodules.clone(),
                submodules,
                is_file_alone: false,
                is_of_git: true,
            });
        }
        let root = root_without_git(folder);
        let mut tree = Self {
            root: root.to_owned(),
            files: BTreeSet::new(),
            folders: BTreeSet::new(),
            submodules: BTreeSet::new(),
            is_file_alone: is_above_work(root),
            is_of_git: false,
        };
        if tree.is_file_alone {
            tree.files
                .extend(file.strip_prefix(root).ok().map(Path::to_owned));
        } else {
            tree.walk()?;
        }
        Ok(tree)
    }

    /// The folder of that tree. Blocking.
    ///
    /// # Errors
    /// The file is not there, or a repository cannot be read.
    pub fn root_of(file: &Path) -> io::Result<PathBuf> {
        let file = file.canonicalize()?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let of_git = WorkTree::root_around(folder)?;
        Ok(of_git.unwrap_or_else(|| root_without_git(folder).to_owned()))
    }

    /// The commit and the branch that the tree of a file is at; `None` outside of a git repository. Blocking.
    ///
    /// # Errors
    /// The file is not there, or a repository cannot be read.
    pub fn checked_out(file: &Path) -> io::Result<Option<CheckedOut>> {
        let file = file.canonicalize()?;
        WorkTree::checked_out_around(file.parent().unwrap_or(Path::new("/")))
    }

    /// The top of the git work tree that a folder is in. Blocking.
    ///
    /// # Errors
    /// The folder is not there, or a repository cannot be read.
    pub fn top_around(folder: &Path) -> io::Result<Option<PathBuf>> {
        WorkTree::root_around(&folder.canonicalize()?)
    }

    fn walk(&mut self) -> io::Result<()> {
        let walk = Unignored::below(&self.root, false, |entry| is_left_out(entry.file_name()))?;
        for entry in walk {
            let entry = entry?;
            let Ok(path) = entry.path().strip_prefix(&self.root) else {
                continue;
            };
            match entry.file_type() {
                Some(kind) if kind.is_dir() && entry.depth() > 0 => {
                    self.folders.insert(path.to_owned());
                }
                Some(kind) if kind.is_file() || kind.is_symlink() => {
                    self.files.insert(path.to_owned());
                }
                // Sockets, pipes and devices; git has none of them either.
                _ => {}
            }
            if self.files.len() + self.folders.len() > MAX_NAMES {
                return Err(self.too_large());
            }
        }
        Ok(())
    }

    /// The entry at a path of the tree.
    #[must_use]
    pub fn entry(&self, path: &str) -> Entry {
        let path = Path::new(path);
        if path == Path::new(".") {
            return Entry::Folder;
        }
        for part in path.ancestors() {
            if self.submodules.contains(part) {
                return Entry::Unknown;
            }
            if self.files.contains(part) {
                let is_link = self.root.join(part).is_symlink();
                return match (is_link, part == path) {
                    (true, _) => Entry::Unknown,
                    (false, true) => Entry::File,
                    (false, false) => Entry::Missing,
                };
            }
        }
        // Entries below a folder follow it directly.
        let is_above_one_of = |paths: &BTreeSet<PathBuf>| {
            let mut behind = paths.range::<Path, _>((Included(path), Unbounded));
            behind.next().is_some_and(|next| next.starts_with(path))
        };
        match is_above_one_of(&self.files) || is_above_one_of(&self.folders) {
            true => Entry::Folder,
            false => Entry::Missing,
        }
    }

    /// Writes it as a tar archive, until `given_up` turns true, and returns the files of which it has
    /// only stand-ins. Blocking.
    ///
    /// # Errors
    /// A file cannot be read (the error names it); the tree is larger than a commit's may be; `given_up` turned true.
    pub fn write_tar(&self, to: &Path, given_up: &AtomicBool) -> io::Result<StandIns> {
        if self.files.len() > MAX_NAMES {
            return Err(self.too_large());
        }
        let mut archive = Builder::new(BufWriter::new(File::create(to)?));
        let mut written = BTreeSet::new();
        let mut bytes = 0;
        let mut stand_ins = StandIns::default();
        for path in self.folders.union(&self.files) {
            if given_up.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let parents: Vec<&Path> = path.ancestors().skip(1).collect();
            for folder in parents.into_iter().rev() {
                add_folder(&mut archive, folder, &mut written)?;
            }
            if self.submodules.contains(path) {
                stand_ins.add_submodule(&path.to_string_lossy());
            }
            if self.folders.contains(path) {
                add_folder(&mut archive, path, &mut written)?;
                continue;
            }
            let room = MAX_BYTES - bytes;
            let added = add(&mut archive, &self.root, path, room, &mut stand_ins);
            bytes += added.map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => self.too_large(),
                kind => io::Error::new(kind, format!("{}: {error}", path.display())),
            })?;
        }
        archive.into_inner()?.flush()?;
        Ok(stand_ins)
    }

    fn too_large(&self) -> io::Error {
        let size = |path: &&PathBuf| {
            let found = self.root.join(path).symlink_metadata();
            found.map_or(0, |found| found.len())
        };
        let largest = self.files.iter().max_by_key(size);
        let largest = largest.map_or_else(String::new, |path| {
            format!(
                "; the largest is {} with {}",
                path.display(),
                in_units(size(&path))
            )
        });
        io::Error::other(format!(
            "the source tree in {} has more than {MAX_NAMES} files and folders or {} GiB{largest}. Name what is not \
             source in its `.gitignore`, or set `checkout: false` in stages that need no source",
            self.root.display(),
            MAX_BYTES >> 30
        ))
    }
}

fn is_left_out(name: &OsStr) -> bool {
    LEFT_OUT.iter().any(|left_out| name == *left_out)
}

fn root_without_git(folder: &Path) -> &Path {
    let holds_dags = folder.file_name().is_some_and(|name| name == "dags");
    folder.parent().filter(|_| holds_dags).unwrap_or(folder)
}

/// Whether a folder is one where users keep all their work, and more.
fn is_above_work(folder: &Path) -> bool {
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    let is_above_home = home.is_some_and(|home| home.starts_with(folder));
    let temporary = std::env::temp_dir().canonicalize();
    is_above_home || folder.parent().is_none() || temporary.is_ok_and(|place| place == folder)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(DATED);
    header
}

fn add_folder(
    archive: &mut Builder<impl Write>,
    folder: &Path,
    written: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    if folder.as_os_str().is_empty() || !written.insert(folder.to_owned()) {
        return Ok(());
    }
    let mut header = header(EntryType::Directory, 0o755, 0);
    archive.append_data(&mut header, folder, io::empty())
}

/// Adds a file of at most `room` bytes, or a link, in its present state. A file that is gone or has changed its kind
/// is left out.
fn add(
    archive: &mut Builder<impl Write>,
    root: &Path,
    path: &Path,
    room: u64,
    stand_ins: &mut StandIns,
) -> io::Result<u64> {
    use std::os::unix::fs::PermissionsExt;
    let from = root.join(path);
    let found = match from.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    if found.is_symlink() {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        archive.append_link(&mut header, path, from.read_link()?)?;
    }
    if !found.is_file() {
        return Ok(0);
    }
    let file = File::open(&from)?;
    // The size of the opened file. Exactly this many bytes are read, holes as zeros: a file that grows is cut there.
    let found = file.metadata()?;
    let size = found.len();
    if size > room {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mode = if found.permissions().mode() & 0o100 == 0 {
        0o644
    } else {
        0o755
    };
    let mut head = Vec::new();
    let mut file = file;
    if size <= StandIns::POINTER_LONGEST {
        (&mut file).take(size).read_to_end(&mut head)?;
        stand_ins.look_at(&path.to_string_lossy(), &head);
    }
    let mut content = head.as_slice().chain(file).take(size);
    archive.append_data(
        &mut header(EntryType::Regular, mode, size),
        path,
        &mut content,
    )?;
    if content.limit() > 0 {
        let message = "it became shorter while it was read; try again once no program writes to it";
        return Err(io::Error::other(message));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder, outside of any repository, with these files.
    fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    /// The tree around a file: names, kinds, sizes and content, in order.
    fn packed(file: &Path) -> Vec<(String, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("tree.tar");
        let tree = WorkingTree::of(file).unwrap();
        tree.write_tar(&to, &AtomicBool::new(false)).unwrap();
        let mut archive = tar::Archive::new(File::open(&to).unwrap());
        let entries = archive.entries().unwrap();
        let read = entries.map(|entry| {
            let mut entry = entry.unwrap();
            assert!(entry.header().mtime().unwrap() > 315_532_800);
            let kind = entry.header().entry_type();
            assert!(
                kind.is_file() || kind.is_dir() || kind.is_symlink(),
                "{kind:?}"
            );
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        read.collect()
    }

    fn names(file: &Path) -> Vec<String> {
        packed(file).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn ignored_files_git_s_own_and_a_daemon_s_data_are_left_out() {
        let folder = place(&[
            (".gitignore", "data\n"),
            (".ignore", "notes\n"),
            ("data", "big"),
            ("notes", ""),
            ("src/a.py", "1"),
            (".git/HEAD", "x"),
            (".trainyard/token", "secret"),
            ("src/.trainyard/token", "secret"),
            ("dags/a.yaml", ""),
        ]);
        assert_eq!(
            names(&folder.path().join("dags/a.yaml")),
            [
                ".gitignore",
                ".ignore",
                "dags",
                "dags/a.yaml",
                "notes",
                "src",
                "src/a.py"
            ]
        );
    }

    #[test]
    fn a_file_with_holes_is_packed_as_an_ordinary_one() {
        let folder = place(&[("a.yaml", "")]);
        let file = File::create(folder.path().join("index.db")).unwrap();
        file.set_len(4 << 20).unwrap();
        (&file).write_all(b"head").unwrap();
        let packed = packed(&folder.path().join("a.yaml"));
        let (name, content) = &packed[1];
        assert_eq!((&**name, content.len()), ("index.db", 4 << 20));
        assert!(content.starts_with(b"head\0"));
    }

    #[test]
    fn links_come_as_they_are_and_pipes_not_at_all() {
        let folder = place(&[("a.yaml", "")]);
        symlink("/nowhere", folder.path().join("link")).unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(names(&folder.path().join("a.yaml")), ["a.yaml", "link"]);
    }

    #[test]
    fn a_file_that_grows_while_it_is_packed_leaves_the_archive_whole() {
        let folder = place(&[("a.yaml", ""), ("log", "0"), ("z", "last")]);
        let log = folder.path().join("log");
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::options().append(true).open(&log).unwrap();
                while !is_done.load(Ordering::Relaxed) {
                    file.write_all(&[b'x'; 512]).unwrap();
                    std::thread::yield_now();
                }
            });
            for _ in 0..20 {
                let packed = packed(&folder.path().join("a.yaml"));
                assert_eq!(packed.len(), 3);
                assert_eq!(packed[2], ("z".to_owned(), b"last".to_vec()));
            }
            is_done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_tree_beyond_what_a_commit_may_have_is_refused_at_once_by_its_largest_file() {
        let folder = place(&[("a.yaml", "")]);
        let disk = File::create(folder.path().join("disk.img")).unwrap();
        disk.set_len(9 << 30).unwrap();
        let tree = WorkingTree::of(&folder.path().join("a.yaml")).unwrap();
        let refused = tree.write_tar(&folder.path().join("tree.tar"), &AtomicBool::new(false));
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains("the largest is disk.img with 9"),
            "{message}"
        );
    }

    #[test]
    fn what_stands_at_a_path_is_what_the_stages_get() {
        let folder = place(&[
            (".gitignore", "build\n"),
            ("dags/a.yaml", ""),
            ("build/Dockerfile", ""),
            ("src/train.py", ""),
            ("src-2/x", ""),
        ]);
        symlink("src", folder.path().join("link")).unwrap();
        let tree = WorkingTree::of(&folder.path().join("dags/a.yaml")).unwrap();
        for (path, entry) in [
            (".", Entry::Folder),
            ("src", Entry::Folder),
            ("src/train.py", Entry::File),
            ("src/train.py/x", Entry::Missing),
            ("build", Entry::Missing),
            ("build/Dockerfile", Entry::Missing),
            ("sr", Entry::Missing),
            ("link", Entry::Unknown),
            ("link/train.py", Entry::Unknown),
        ] {
            assert_eq!(tree.entry(path), entry, "{path}");
        }
    }

    #[test]
    fn a_pointer_of_git_lfs_is_packed_and_named() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:7\nsize 9\n";
        let folder = place(&[("a.yaml", ""), ("rows.bin", pointer), ("small", "1")]);
        let tree = WorkingTree::of(&folder.path().join("a.yaml")).unwrap();
        let to = tempfile::NamedTempFile::new().unwrap();
        let stand_ins = tree.write_tar(to.path(), &AtomicBool::new(false)).unwrap();
        let notes = stand_ins.notes_of_work_tree();
        assert_eq!(
            notes,
            [
                "rows.bin is a pointer of Git LFS: its content is not in the source tree (`git lfs pull` fetches it)"
            ]
        );
        let packed = packed(&folder.path().join("a.yaml"));
        assert_eq!(packed[1], ("rows.bin".to_owned(), pointer.into()));
    }

    #[test]
    fn the_folder_of_all_temporary_files_is_not_a_source_tree() {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        let tree = WorkingTree::of(file.path()).unwrap();
        assert!(tree.is_file_alone);
        assert_eq!(tree.files.len(), 1);
    }

    #[test]
    fn an_abandoned_source_tree_is_not_packed() {
        let folder = place(&[("a.yaml", "")]);
        let tree = WorkingTree::of(&folder.path().join("a.yaml")).unwrap();
        let stopped = tree.write_tar(&folder.path().join("tree.tar"), &AtomicBool::new(true));
        assert_eq!(stopped.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
