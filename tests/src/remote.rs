//! A git remote and a user who pushes to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::Place;

/// A bare repository and a work tree whose `origin` it is.
#[derive(Debug)]
pub struct Remote {
    bare: PathBuf,
    tree: PathBuf,
}

impl Remote {
    /// An empty remote below `place`, with `main` as its default branch.
    ///
    /// # Panics
    /// When git fails.
    #[must_use]
    pub fn new(place: &Place, name: &str) -> Self {
        let bare = place.join(&format!("{name}.git"));
        let tree = place.join(name);
        git(
            place.path(),
            &[
                "init",
                "-q",
                "--bare",
                "-b",
                "main",
                &bare.display().to_string(),
            ],
        );
        git(
            place.path(),
            &["init", "-q", "-b", "main", &tree.display().to_string()],
        );
        git(
            &tree,
            &["remote", "add", "origin", &bare.display().to_string()],
        );
        Self { bare, tree }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.bare.display())
    }

    /// The pusher's work tree.
    #[must_use]
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Writes files, commits and pushes them to `branch`. Returns the commit's full hash.
    ///
    /// # Panics
    /// When git fails.
    pub fn push(&self, branch: &str, files: &[(&str, &str)]) -> String {
        for (name, text) in files {
            let path = self.tree.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(&self.tree, &["add", "-A"]);
        git(
            &self.tree,
            &["commit", "-q", "--allow-empty", "-m", "A change"],
        );
        git(
            &self.tree,
            &[
                "push",
                "-q",
                "--force",
                "origin",
                &format!("HEAD:refs/heads/{branch}"),
            ],
        );
        self.head()
    }

    /// Deletes a branch.
    ///
    /// # Panics
    /// When git fails.
    pub fn delete(&self, branch: &str) {
        git(&self.tree, &["push", "-q", "origin", "--delete", branch]);
    }

    /// Makes a branch the default one, as in a forge's settings.
    ///
    /// # Panics
    /// When git fails.
    pub fn make_default(&self, branch: &str) {
        git(
            &self.bare,
            &["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")],
        );
    }

    /// The work tree's commit.
    ///
    /// # Panics
    /// When git fails.
    #[must_use]
    pub fn head(&self) -> String {
        git(&self.tree, &["rev-parse", "HEAD"])
    }
}

/// Calls git with a fixed author and returns its output.
///
/// # Panics
/// When it fails.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("GIT_AUTHOR_EMAIL", "ada@example.org"),
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "ada@example.org"),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
