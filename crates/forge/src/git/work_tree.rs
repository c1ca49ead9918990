//! The files of a work tree on this machine: those that git tracks, in their state on the disk, and those that it
//! neither tracks nor ignores.
//!
//! That is `git ls-files --cached --others --exclude-standard` without files that are missing from the
//! disk. Submodules, and repositories below that git does not track, are left out: a checkout has none of
//! their files either.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use git2::{ErrorCode, Repository, RepositoryOpenFlags};

use super::CommitSha;
use super::ignored::{Unignored, plain, readable};
use super::objects::Kind;
use super::settings;

/// A work tree and the files that a checkout of it would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkTree {
    pub root: PathBuf,
    /// Files and symbolic links, relative to the root, in order.
    pub files: BTreeSet<PathBuf>,
    /// The folders of submodules, which a checkout leaves empty.
    pub submodules: BTreeSet<PathBuf>,
}

/// The commit and the branch that a work tree is at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// `None` before the first commit.
    pub commit: Option<CommitSha>,
    /// `None` where no branch is checked out, as in the middle of a rebase.
    pub branch: Option<String>,
}

impl CheckedOut {
    /// Reads `HEAD` and the branch that it names. Only plain files count: reading a pipe or a device may not end.
    fn of(repository: &Repository) -> io::Result<Self> {
        let head = first_line(&repository.path().join("HEAD"))?.unwrap_or_default();
        let Some(reference) = head.strip_prefix("ref: ").map(str::trim) else {
            return Ok(Self {
                commit: CommitSha::new(&head).ok(),
                branch: None,
            });
        };
        // An odd name could lead to another file.
        let branch = reference.strip_prefix("refs/heads/");
        let Some(branch) = branch.filter(|_| git2::Reference::is_valid_name(reference)) else {
            return Ok(Self::default());
        };
        let shared = repository.commondir();
        let commit = match first_line(&shared.join(reference))? {
            Some(line) => CommitSha::new(&line).ok(),
            None => {
                readable(&shared.join("packed-refs"))?;
                let packed = repository.refname_to_id(reference).ok();
                packed.and_then(|id| CommitSha::new(&id.to_string()).ok())
            }
        };
        Ok(Self {
            commit,
            branch: Some(branch.to_owned()),
        })
    }
}

/// The first line of a small file; `None` if there is no file.
fn first_line(path: &Path) -> io::Result<Option<String>> {
    readable(path)?;
    if !path.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LONGEST_LINE)
        .read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(
        text.lines().next().unwrap_or_default().trim().to_owned(),
    ))
}

/// The longest line of a file that names a commit or a branch.
const LONGEST_LINE: u64 = 4096;

impl WorkTree {
    /// The work tree that contains a folder; `None` if it is not in a repository. Blocking.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn around(folder: &Path) -> io::Result<Option<Self>> {
        let Some((repository, root)) = opened(folder)? else {
            return Ok(None);
        };
        let mut tree = Self {
            root,
            files: BTreeSet::new(),
            submodules: BTreeSet::new(),
        };
        tree.add_tracked(&repository)
            .map_err(|error| unreadable(folder, &error))?;
        tree.add_others()?;
        Ok(Some(tree))
    }

    /// The root of the work tree that contains a folder; `None` if it is not in a repository. Blocking.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn root_around(folder: &Path) -> io::Result<Option<PathBuf>> {
        Ok(opened(folder)?.map(|(_, root)| root))
    }

    /// The commit and the branch of the work tree that contains a folder; `None` if it is not in a repository. Blocking.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn checked_out_around(folder: &Path) -> io::Result<Option<CheckedOut>> {
        let Some((repository, _)) = opened(folder)? else {
            return Ok(None);
        };
        CheckedOut::of(&repository).map(Some)
    }

    fn add_tracked(&mut self, repository: &Repository) -> Result<(), git2::Error> {
        let index = repository.index()?;
        let mut folders = Folders::of(&self.root);
        for entry in index.iter() {
            let path = PathBuf::from(OsStr::from_bytes(&entry.path));
            if !is_below(&path) {
                continue;
            }
            let there = folders.holds(&path);
            let is_folder = there.is_some_and(|kind| kind.is_dir());
            let is_submodule =
                Kind::of(i32::try_from(entry.mode).unwrap_or_default()) == Kind::Submodule;
            if is_submodule && is_folder {
                self.submodules.insert(path);
            } else if there.is_some() && !is_folder {
                self.files.insert(path);
            }
        }
        Ok(())
    }

    /// Adds files that are neither tracked nor ignored. libgit2 reads some patterns in a way of its own,
    /// such as `*/`.
    fn add_others(&mut self) -> io::Result<()> {
        let walk = Unignored::below(&self.root, true, |entry| {
            let is_below = entry.depth() > 0;
            entry.file_name() == ".git" || (is_below && entry.path().join(".git").exists())
        })?;
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                // A database's folder, say: git skips folders that it may not open, too.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                Err(error) => return Err(error),
            };
            let is_file = entry
                .file_type()
                .is_some_and(|kind| kind.is_file() || kind.is_symlink());
            if is_file && let Ok(path) = entry.path().strip_prefix(&self.root) {
                self.files.insert(path.to_owned());
            }
        }
        Ok(())
    }
}

/// Whether a path of an index stays in the tree. An index that git did not write may name other files.
fn is_below(path: &Path) -> bool {
    let mut parts = path.components();
    parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Files of a repository that libgit2 reads when it opens one and lists its index.
const READ_BY_GIT: [&str; 4] = ["HEAD", "config", "index", "packed-refs"];

/// The repository whose work tree contains a folder, and the root of that: the folder that holds `.git`.
///
/// The content of a checkout does not decide which files it consists of. So its configuration has no say
/// (`core.worktree` could name the user's home), and a folder that only looks like a bare repository is not one.
fn opened(folder: &Path) -> io::Result<Option<(Repository, PathBuf)>> {
    settings::read_any_owner().map_err(io::Error::other)?;
    let start = folder.symlink_metadata()?;
    for root in folder.ancestors() {
        // As git does, the search ends where another file system begins.
        if root.symlink_metadata()?.dev() != start.dev() {
            return Ok(None);
        }
        let git = root.join(".git");
        let Ok(found) = git.symlink_metadata() else {
            continue;
        };
        // Git follows a link to its folder.
        if git.is_dir() {
            for file in READ_BY_GIT {
                readable(&git.join(file))?;
            }
        } else {
            plain(&git, LARGEST_GIT_FILE)?;
        }
        let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
        let repository = match Repository::open_ext(&git, flags, [] as [&OsStr; 0]) {
            Ok(repository) => repository,
            Err(error) if error.code() == ErrorCode::NotFound => continue,
            Err(error) => return Err(unreadable(folder, &error)),
        };
        let own = [nix::unistd::geteuid().as_raw(), start.uid()];
        if !own.contains(&found.uid()) {
            return Err(of_another_user(&git, found.uid()));
        }
        return Ok(Some((repository, root.to_owned())));
    }
    Ok(None)
}

/// A `.git` that is a file names a folder, in one line.
const LARGEST_GIT_FILE: u64 = 64 << 10;

fn of_another_user(git: &Path, owner: u32) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} belongs to another user (uid {owner}), who would decide which files are read; move the project out of \
             that folder, or make `.git` yours with `chown`",
            git.display()
        ),
    )
}

fn unreadable(folder: &Path, error: &git2::Error) -> io::Error {
    let message = format!(
        "the git repository around {} cannot be read: {}",
        folder.display(),
        error.message()
    );
    io::Error::other(message)
}

/// The kind of a path on the disk; symbolic links to folders are not folders.
struct Folders<'a> {
    root: &'a Path,
    known: HashSet<PathBuf>,
}

impl<'a> Folders<'a> {
    fn of(root: &'a Path) -> Self {
        Self {
            root,
            known: HashSet::new(),
        }
    }

    /// The kind of a path; `None` if nothing is there, or only through a symbolic link.
    fn holds(&mut self, path: &Path) -> Option<std::fs::FileType> {
        let folder = path.parent()?;
        if !folder.as_os_str().is_empty() && !self.known.contains(folder) {
            if !self.holds(folder)?.is_dir() {
                return None;
            }
            self.known.insert(folder.to_owned());
        }
        let found = self.root.join(path).symlink_metadata().ok()?;
        Some(found.file_type())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use git2::{IndexAddOption, Signature};

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        repository: Repository,
    }

    impl Place {
        /// A repository that has these files tracked.
        fn tracking(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let repository = Repository::init(folder.path().join("tree")).unwrap();
            let place = Self { folder, repository };
            for (name, text) in files {
                place.write(name, text);
            }
            let mut index = place.repository.index().unwrap();
            index.add_all(["*"], IndexAddOption::FORCE, None).unwrap();
            index.write().unwrap();
            place
        }

        fn root(&self) -> PathBuf {
            self.folder.path().join("tree")
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.root().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn files(&self) -> Vec<String> {
            let tree = WorkTree::around(&self.root()).unwrap().unwrap();
            let files = tree.files.iter();
            files.map(|path| path.display().to_string()).collect()
        }
    }

    #[test]
    fn tracked_files_come_whatever_is_ignored_and_untracked_ones_unless_they_are() {
        let place = Place::tracking(&[
            (".gitignore", "data/\n*.tmp\n"),
            (".ignore", "notes.md\n"),
            ("data/sample.csv", "forced"),
            ("notes.md", ""),
        ]);
        place.write("data/big.bin", "");
        place.write("src/new.py", "");
        place.write("src/new.tmp", "");
        assert_eq!(
            place.files(),
            [
                ".gitignore",
                ".ignore",
                "data/sample.csv",
                "notes.md",
                "src/new.py"
            ]
        );
    }

    #[test]
    fn what_a_gitignore_above_the_repository_says_does_not_count() {
        let place = Place::tracking(&[("a", "")]);
        place.write("b", "");
        fs::write(place.folder.path().join(".gitignore"), "*\n").unwrap();
        assert_eq!(place.files(), ["a", "b"]);
    }

    #[test]
    fn files_that_are_gone_from_the_disk_are_left_out() {
        let place = Place::tracking(&[("a", ""), ("b/c", "")]);
        fs::remove_file(place.root().join("a")).unwrap();
        assert_eq!(place.files(), ["b/c"]);
    }

    #[test]
    fn a_folder_that_became_a_link_comes_as_the_link_alone() {
        let place = Place::tracking(&[("a", ""), ("b/c", "")]);
        fs::rename(place.root().join("b"), place.folder.path().join("b")).unwrap();
        symlink("../b", place.root().join("b")).unwrap();
        assert_eq!(place.files(), ["a", "b"]);
    }

    #[test]
    fn a_file_that_became_a_folder_comes_with_what_is_in_it() {
        let place = Place::tracking(&[("a", "")]);
        fs::remove_file(place.root().join("a")).unwrap();
        place.write("a/b", "");
        assert_eq!(place.files(), ["a/b"]);
    }

    #[test]
    fn repositories_below_are_skipped() {
        let place = Place::tracking(&[("a", "")]);
        let inner = Repository::init(place.root().join("inner")).unwrap();
        place.write("inner/code.py", "");
        assert_eq!(place.files(), ["a"]);
        // As a submodule it is a folder without files.
        let someone = Signature::now("Ada", "ada@example.org").unwrap();
        let empty = inner.treebuilder(None).unwrap().write().unwrap();
        let empty = inner.find_tree(empty).unwrap();
        inner
            .commit(Some("HEAD"), &someone, &someone, "first", &empty, &[])
            .unwrap();
        let mut index = place.repository.index().unwrap();
        index.add_path(Path::new("inner")).unwrap();
        index.write().unwrap();
        let tree = WorkTree::around(&place.root()).unwrap().unwrap();
        assert_eq!(place.files(), ["a"]);
        assert_eq!(tree.submodules, BTreeSet::from([PathBuf::from("inner")]));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]

        #[test]
        fn it_has_what_git_itself_lists(
            files in proptest::collection::btree_set("[ab]{1,2}(/[ab]{1,2}){0,2}(\\.c)?", 1..12),
            rules in proptest::collection::vec("!?/?(\\*\\*/)?[ab*]{1,2}(/[ab*]{1,2})?(\\.c|/)?", 0..5),
            inner in proptest::collection::vec("!?/?[ab*]{1,2}(\\.c|/)?", 0..3),
            tracked in 0..12_usize,
        ) {
            let place = Place::tracking(&[]);
            let write = |name: &str, text: &str| {
                let path = place.root().join(name);
                // A name may be a file's already where a folder is wanted.
                let made = fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.is_dir();
                if made { fs::write(path, text).unwrap(); }
                made
            };
            let mut index = place.repository.index().unwrap();
            for (number, name) in files.iter().enumerate() {
                if write(name, "") && number % 12 < tracked {
                    index.add_path(Path::new(name)).unwrap();
                }
            }
            index.write().unwrap();
            write(".gitignore", &rules.join("\n"));
            write("a/.gitignore", &inner.join("\n"));
            let listed = std::process::Command::new("git")
                .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
                .current_dir(place.root())
                .output()
                .unwrap();
            let listed = String::from_utf8(listed.stdout).unwrap();
            let listed: BTreeSet<PathBuf> =
                listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
            let tree = WorkTree::around(&place.root()).unwrap().unwrap();
            proptest::prop_assert_eq!(tree.files, listed);
        }
    }

    #[test]
    fn the_configuration_of_a_checkout_cannot_move_its_work_tree() {
        let place = Place::tracking(&[("a", "")]);
        fs::write(place.folder.path().join("secret"), "").unwrap();
        let mut config = place.repository.config().unwrap();
        config.set_str("core.worktree", "../..").unwrap();
        assert_eq!(place.files(), ["a"]);
    }

    #[test]
    fn a_folder_that_looks_like_a_bare_repository_is_a_part_of_the_one_around_it() {
        let place = Place::tracking(&[
            ("proj/HEAD", "ref: refs/heads/main\n"),
            ("proj/objects/.keep", ""),
            ("proj/refs/.keep", ""),
            ("proj/config", "[core]\nbare = false\nworktree = ../../..\n"),
            ("proj/dags/x.yaml", ""),
        ]);
        let root = WorkTree::root_around(&place.root().join("proj/dags")).unwrap();
        assert_eq!(root, Some(place.root()));
    }

    #[test]
    fn a_path_of_an_index_that_leads_out_of_the_tree_is_not_below_it() {
        assert!(is_below(Path::new("a/b")));
        for path in ["../secret", "a/../../secret", "/etc/passwd"] {
            assert!(!is_below(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_file_of_patterns_that_is_a_link_or_a_pipe_is_refused_by_name() {
        for folder in ["", "sub/"] {
            let place = Place::tracking(&[("a", ""), ("sub/b", "")]);
            let path = place.root().join(folder).join(".gitignore");
            symlink("/dev/zero", &path).unwrap();
            let refused = WorkTree::around(&place.root()).unwrap_err().to_string();
            assert!(
                refused.contains("/.gitignore is a symbolic link"),
                "{refused}"
            );
            fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let refused = WorkTree::around(&place.root()).unwrap_err().to_string();
            assert!(refused.contains("/.gitignore is a pipe"), "{refused}");
        }
    }

    #[test]
    fn files_of_git_that_are_pipes_are_refused_by_name() {
        for file in ["HEAD", "config", "index"] {
            let place = Place::tracking(&[("a", "")]);
            let path = place.root().join(".git").join(file);
            fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let refused = WorkTree::around(&place.root()).unwrap_err().to_string();
            assert!(refused.contains("is a pipe"), "{refused}");
        }
    }

    #[test]
    fn a_link_to_the_folder_of_git_is_followed() {
        let place = Place::tracking(&[("a", "")]);
        let moved = place.folder.path().join("git-dir");
        fs::rename(place.root().join(".git"), &moved).unwrap();
        symlink(&moved, place.root().join(".git")).unwrap();
        assert_eq!(place.files(), ["a"]);
    }

    #[test]
    fn a_linked_work_tree_of_git_is_one() {
        let place = Place::tracking(&[("a", "")]);
        let someone = Signature::now("Ada", "ada@example.org").unwrap();
        let tree = place.repository.index().unwrap().write_tree().unwrap();
        let tree = place.repository.find_tree(tree).unwrap();
        place
            .repository
            .commit(Some("HEAD"), &someone, &someone, "first", &tree, &[])
            .unwrap();
        let other = place.folder.path().join("other");
        place.repository.worktree("other", &other, None).unwrap();
        let linked = WorkTree::around(&other).unwrap().unwrap();
        assert_eq!(linked.root, other);
        assert_eq!(linked.files, BTreeSet::from([PathBuf::from("a")]));
    }

    #[test]
    fn a_folder_in_no_repository_has_no_work_tree() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        assert_eq!(WorkTree::around(folder.path()).unwrap(), None);
    }

    #[test]
    fn a_work_tree_is_at_the_commit_and_branch_of_its_head() {
        let place = Place::tracking(&[("a", "")]);
        let checked_out = || {
            let found = WorkTree::checked_out_around(&place.root())
                .unwrap()
                .unwrap();
            (found.commit.map(|commit| commit.to_string()), found.branch)
        };
        place.repository.set_head("refs/heads/feat/one").unwrap();
        let branch = Some("feat/one".to_owned());
        assert_eq!(
            checked_out(),
            (None, branch.clone()),
            "before its first commit"
        );
        let someone = Signature::now("Ada", "ada@example.org").unwrap();
        let tree = place.repository.index().unwrap().write_tree().unwrap();
        let tree = place.repository.find_tree(tree).unwrap();
        let commit = place
            .repository
            .commit(Some("HEAD"), &someone, &someone, "first", &tree, &[])
            .unwrap();
        let at = Some(commit.to_string());
        assert_eq!(
            checked_out(),
            (at.clone(), branch.clone()),
            "a file of its own"
        );
        let git = place.root().join(".git");
        let packed = format!("{commit} refs/heads/feat/one\n");
        fs::write(git.join("packed-refs"), packed).unwrap();
        fs::remove_file(git.join("refs/heads/feat/one")).unwrap();
        assert_eq!(checked_out(), (at.clone(), branch), "packed");
        place.repository.set_head_detached(commit).unwrap();
        assert_eq!(checked_out(), (at, None));
        // What a checkout brings is neither waited for nor followed elsewhere.
        fs::write(place.folder.path().join("secret"), "1".repeat(40)).unwrap();
        for odd in [
            "ref: refs/heads/../../../secret",
            "ref: /etc/passwd",
            "\0",
            "",
        ] {
            fs::write(git.join("HEAD"), odd).unwrap();
            let found = WorkTree::checked_out_around(&place.root());
            assert!(
                found.is_err()
                    || found.is_ok_and(|found| found.unwrap_or_default().commit.is_none()),
                "{odd}"
            );
        }
        fs::write(git.join("HEAD"), "ref: refs/heads/pipe\n").unwrap();
        let pipe = git.join("refs/heads/pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let refused = WorkTree::checked_out_around(&place.root()).unwrap_err();
        assert!(refused.to_string().contains("a pipe"), "{refused}");
    }
}
