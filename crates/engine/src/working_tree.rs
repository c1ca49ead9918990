//! The source tree for a file run by hand: the working tree as it stands, without ignored files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

/// Writes the files of `root` that git would not ignore as a tar archive, `.git` left out.
/// Blocking. Times and owners are left out, so that equal trees make equal archives.
///
/// # Errors
/// A file that cannot be read, by name.
pub fn write_tar(root: &Path, to: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::new(File::create(to)?));
    archive.follow_symlinks(false);
    archive.mode(tar::HeaderMode::Deterministic);
    for path in tracked(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path);
        archive
            .append_path_with_name(&path, name)
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
    }
    archive.into_inner()?.flush()
}

fn tracked(root: &Path) -> io::Result<Vec<PathBuf>> {
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut paths = Vec::new();
    for entry in walk {
        let entry = entry.map_err(io::Error::other)?;
        let is_kept = entry
            .file_type()
            .is_some_and(|kind| kind.is_file() || kind.is_symlink() || kind.is_dir());
        if entry.depth() > 0 && is_kept {
            paths.push(entry.into_path());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_files_and_git_itself_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir_all(root.join(".git")).unwrap();
        std::fs::create_dir_all(root.join("src")).unwrap();
        for (name, text) in [
            (".gitignore", "data\n"),
            ("data", "big"),
            ("src/a.py", "1"),
            (".git/HEAD", "x"),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        let tar = folder.path().join("tree.tar");
        write_tar(&root, &tar).unwrap();
        let mut archive = tar::Archive::new(File::open(&tar).unwrap());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, [".gitignore", "src", "src/a.py"]);
    }
}
