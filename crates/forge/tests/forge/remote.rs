//! A remote, a user who pushes to it, and a mirror of it.

use std::path::{Path, PathBuf};

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, ObjectType, Oid, Repository, RepositoryInitOptions, Signature, Time};
use tempfile::TempDir;
use trainyard_core::id::RepoId;
use trainyard_forge::{
    CancelFlag, CommitSha, Error, FetchLimits, Heads, Mirror, Mirrors, UrlRules, Worker,
};
use uuid::Uuid;

/// When all commits were made.
pub(crate) const COMMITTED_AT: i64 = 1_700_000_000;

/// A bare repository, and a folder for its mirror next to it.
pub(crate) struct Remote {
    folder: TempDir,
    pub(crate) repository: Repository,
}

impl Remote {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Applies the process-wide settings before this test's first use of libgit2.
        let _ = mirrors(folder.path());
        let repository = Repository::init_opts(
            folder.path().join("model.git"),
            RepositoryInitOptions::new().bare(true).initial_head("main"),
        )
        .unwrap();
        Self { folder, repository }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("model.git")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    pub(crate) fn mirrors(&self) -> Mirrors {
        mirrors(self.folder.path())
    }

    pub(crate) fn mirror(&self) -> Mirror {
        self.mirrors().mirror(RepoId(Uuid::nil()))
    }

    pub(crate) fn fetch(&self) -> Result<Heads, Error> {
        self.mirror()
            .fetch(&self.url(), None, &CancelFlag::default())
    }

    /// The mirror after a fetch.
    pub(crate) fn fetched(&self) -> Mirror {
        self.fetch().unwrap();
        self.mirror()
    }

    /// Writes files on top of what `branch` has.
    pub(crate) fn push(&self, branch: &str, files: &[(&str, &str)]) -> CommitSha {
        let entries: Vec<(&str, FileMode, Oid)> = files
            .iter()
            .map(|(path, text)| (*path, FileMode::Blob, self.blob(text.as_bytes())))
            .collect();
        self.push_entries(branch, &entries)
    }

    pub(crate) fn push_entries(
        &self,
        branch: &str,
        entries: &[(&str, FileMode, Oid)],
    ) -> CommitSha {
        let base = match self.tip(branch) {
            Some(tip) => self.repository.find_commit(tip).unwrap().tree().unwrap(),
            None => {
                let empty = self.repository.treebuilder(None).unwrap().write().unwrap();
                self.repository.find_tree(empty).unwrap()
            }
        };
        let mut update = TreeUpdateBuilder::new();
        for (path, mode, id) in entries {
            update.upsert(*path, *id, *mode);
        }
        let tree = update.create_updated(&self.repository, &base).unwrap();
        self.push_tree(branch, tree, "A change")
    }

    /// Removes files of `branch`.
    pub(crate) fn push_removal(&self, branch: &str, paths: &[&str]) -> CommitSha {
        let tip = self.tip(branch).unwrap();
        let base = self.repository.find_commit(tip).unwrap().tree().unwrap();
        let mut update = TreeUpdateBuilder::new();
        for path in paths {
            update.remove(*path);
        }
        let tree = update.create_updated(&self.repository, &base).unwrap();
        self.push_tree(branch, tree, "A removal")
    }

    pub(crate) fn push_tree(&self, branch: &str, tree: Oid, message: &str) -> CommitSha {
        let parents: Vec<git2::Commit<'_>> = self
            .tip(branch)
            .map(|tip| self.repository.find_commit(tip).unwrap())
            .into_iter()
            .collect();
        let parents: Vec<&git2::Commit<'_>> = parents.iter().collect();
        let who = Signature::new("Ada", "ada@example.org", &Time::new(COMMITTED_AT, 0)).unwrap();
        let tree = self.repository.find_tree(tree).unwrap();
        let id = self
            .repository
            .commit(None, &who, &who, message, &tree, &parents)
            .unwrap();
        self.point(&format!("refs/heads/{branch}"), &sha(id));
        sha(id)
    }

    /// Points a ref somewhere, forced.
    pub(crate) fn point(&self, name: &str, to: &CommitSha) {
        self.repository
            .reference(name, oid(to), true, "push")
            .unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        self.repository
            .find_reference(name)
            .unwrap()
            .delete()
            .unwrap();
    }

    pub(crate) fn annotated_tag(&self, name: &str, to: &CommitSha) -> Oid {
        let who = Signature::new("Ada", "ada@example.org", &Time::new(COMMITTED_AT, 0)).unwrap();
        let target = self.repository.find_object(oid(to), None).unwrap();
        self.repository
            .tag(name, &target, &who, "A release", false)
            .unwrap()
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Oid {
        self.repository.blob(bytes).unwrap()
    }

    /// A tree of exactly these entries, whatever git thinks of their names.
    pub(crate) fn raw_tree(&self, entries: &[(&str, &[u8], Oid)]) -> Oid {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(id.as_bytes());
        }
        self.repository
            .odb()
            .unwrap()
            .write(ObjectType::Tree, &bytes)
            .unwrap()
    }

    /// Another repository next to it, with one commit, whose hashes are SHA-256.
    pub(crate) fn make_sha256(&self, name: &str) -> PathBuf {
        let path = self.folder().join(name);
        let git = |args: &[&str]| {
            let ran = std::process::Command::new("git")
                .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
                .arg("--git-dir")
                .arg(&path)
                .args(args)
                .output()
                .unwrap();
            assert!(
                ran.status.success(),
                "{}",
                String::from_utf8_lossy(&ran.stderr)
            );
            String::from_utf8(ran.stdout).unwrap().trim().to_owned()
        };
        git(&[
            "init",
            "-q",
            "--bare",
            "-b",
            "main",
            "--object-format=sha256",
        ]);
        let tree = git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
        let commit = git(&["commit-tree", "-m", "First", &tree]);
        git(&["update-ref", "refs/heads/main", &commit]);
        path
    }

    fn tip(&self, branch: &str) -> Option<Oid> {
        self.repository
            .refname_to_id(&format!("refs/heads/{branch}"))
            .ok()
    }
}

fn mirrors(folder: &Path) -> Mirrors {
    Mirrors::new(folder.join("mirrors")).with_rules(UrlRules {
        allow_file_urls: true,
        allow_loopback: true,
        ..UrlRules::default()
    })
}

/// Git's child processes.
pub(crate) fn worker() -> Worker {
    Worker::new(env!("CARGO_BIN_EXE_git-worker").into(), Vec::new())
}

/// The usual limits, except for these.
pub(crate) fn limits(change: impl FnOnce(&mut FetchLimits)) -> FetchLimits {
    let mut limits = FetchLimits::default();
    change(&mut limits);
    limits
}

pub(crate) fn sha(id: Oid) -> CommitSha {
    CommitSha::new(&id.to_string()).unwrap()
}

pub(crate) fn oid(sha: &CommitSha) -> Oid {
    Oid::from_str(sha.as_str()).unwrap()
}
