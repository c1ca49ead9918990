//! Reads checkouts on this machine's disk without libgit2, so that their configuration has no effect.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longer than any of git's one-line files.
const LINE_BYTES: u64 = 8 << 10;

/// The git directory of a checkout; `None` if the folder is not one, such as a bare repository.
pub(crate) fn git_folder(root: &Path) -> Option<PathBuf> {
    if root.file_name().is_some_and(|name| name == ".git") && root.is_dir() {
        return Some(root.to_owned());
    }
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let folder = one_line(&git)?;
    Some(root.join(folder.strip_prefix("gitdir:")?.trim()))
}

/// Whether a folder is a checkout or a bare repository.
pub(crate) fn is_repository(root: &Path) -> bool {
    let is_git = |folder: &Path| folder.join("HEAD").is_file() && folder.join("objects").is_dir();
    // A linked checkout has its objects with the first one.
    git_folder(root).is_some_and(|git| git.join("HEAD").is_file()) || is_git(root)
}

/// The branch that is checked out in a folder; `None` if there is none, or the folder is not a checkout.
pub(crate) fn branch(root: &Path) -> Option<String> {
    let head = one_line(&git_folder(root)?.join("HEAD"))?;
    let branch = head
        .strip_prefix("ref:")?
        .trim()
        .strip_prefix("refs/heads/")?;
    (!branch.is_empty()).then(|| branch.to_owned())
}

fn one_line(file: &Path) -> Option<String> {
    if !file.is_file() {
        return None;
    }
    let mut text = String::new();
    let mut file = File::open(file).ok()?.take(LINE_BYTES);
    file.read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_of_a_checkout_is_known_and_a_bare_repository_has_none() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("work");
        let repo = git2::Repository::init(&root).unwrap();
        repo.set_head("refs/heads/team/trunk").unwrap();
        assert_eq!(branch(&root).as_deref(), Some("team/trunk"));
        assert_eq!(branch(&root.join(".git")).as_deref(), Some("team/trunk"));

        let linked = place.path().join("linked");
        std::fs::create_dir(&linked).unwrap();
        std::fs::write(linked.join(".git"), "gitdir: ../work/.git\n").unwrap();
        assert_eq!(branch(&linked).as_deref(), Some("team/trunk"));

        std::fs::write(root.join(".git/HEAD"), format!("{}\n", "0".repeat(40))).unwrap();
        assert_eq!(branch(&root), None, "no branch is checked out");
        let bare = place.path().join("bare.git");
        let _ = git2::Repository::init_bare(&bare).unwrap();
        assert_eq!((git_folder(&bare), branch(&bare)), (None, None));
        for repository in [&root, &root.join(".git"), &linked, &bare] {
            assert!(is_repository(repository), "{}", repository.display());
        }
        for other in [place.path(), &place.path().join("nowhere")] {
            assert!(!is_repository(other), "{}", other.display());
        }
    }
}
