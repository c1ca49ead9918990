//! Whether a folder on this machine's disk comes from a repository.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::checkout::git_folder;

/// Whether git tracks a file in `folder`, as far as the index of the checkout around it can be read. Only the index
/// is read, and nothing of the repository's configuration.
#[must_use]
pub fn is_tracked(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else {
        return false;
    };
    folder.ancestors().skip(1).any(|root| {
        let within = folder.strip_prefix(root).unwrap_or(&folder);
        index_of(root).is_some_and(|index| has_entry_in(&index, within.as_os_str().as_bytes()))
    })
}

fn has_entry_in(index: &git2::Index, folder: &[u8]) -> bool {
    index.iter().any(|entry| {
        let rest = entry.path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// The index of a checkout; `None` if the folder is not one.
fn index_of(root: &Path) -> Option<git2::Index> {
    let file = git_folder(root)?.join("index");
    file.is_file().then(|| git2::Index::open(&file).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tracked_where_the_index_has_a_file_in_it() {
        let place = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init(place.path()).unwrap();
        for file in [".trainyard/token", "src/a.py", ".trainyard-of-another/b"] {
            let path = place.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let folder = place.path().join(".trainyard");
        assert!(!is_tracked(&folder));
        let mut index = repo.index().unwrap();
        index
            .add_path(Path::new(".trainyard-of-another/b"))
            .unwrap();
        index.write().unwrap();
        assert!(!is_tracked(&folder));
        index.add_path(Path::new(".trainyard/token")).unwrap();
        index.write().unwrap();
        assert!(is_tracked(&folder));
        assert!(is_tracked(&folder.join("token")));
        assert!(!is_tracked(&place.path().join("src/b")));
        assert!(!is_tracked(&place.path().join("nowhere")));
    }

    #[test]
    fn an_index_that_cannot_be_read_says_nothing() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join(".git")).unwrap();
        std::fs::create_dir_all(place.path().join("data")).unwrap();
        std::fs::write(place.path().join(".git/index"), "DIRC?").unwrap();
        assert!(!is_tracked(&place.path().join("data")));
    }
}
