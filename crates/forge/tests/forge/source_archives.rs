//! The source archive of a commit is its tree, always the same, and never a way out of its folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use git2::{FileMode, Oid};
use tar::EntryType;
use trainyard_forge::{CancelFlag, CommitSha, Error};

use crate::remote::{COMMITTED_AT, Remote};

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: EntryType,
    mode: u32,
    text: Vec<u8>,
}

fn write(remote: &Remote, commit: &CommitSha, name: &str) -> Result<PathBuf, Error> {
    let path = remote.folder().join("sources").join(name);
    remote
        .fetched()
        .write_source_tar(commit, &path, None, &CancelFlag::default())?;
    Ok(path)
}

fn read(path: &PathBuf) -> BTreeMap<String, Entry> {
    let packed = File::open(path).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    let mut entries = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), COMMITTED_AT.unsigned_abs());
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut text = entry
            .link_name_bytes()
            .map(|link| link.into_owned())
            .unwrap_or_default();
        entry.read_to_end(&mut text).unwrap();
        assert!(entries.insert(name, Entry { kind, mode, text }).is_none());
    }
    entries
}

fn entry(kind: EntryType, mode: u32, text: &[u8]) -> Entry {
    Entry {
        kind,
        mode,
        text: text.to_vec(),
    }
}

#[test]
fn files_links_and_submodules_are_archived_as_git_holds_them() {
    let remote = Remote::new();
    let module = Oid::from_str(&"1".repeat(40)).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let commit = remote.push_entries(
        "main",
        &[
            ("README", FileMode::Blob, remote.blob(b"hello")),
            (
                "bin/run",
                FileMode::BlobExecutable,
                remote.blob(b"#!/bin/sh\n"),
            ),
            ("data.bin", FileMode::Blob, remote.blob(pointer.as_bytes())),
            ("empty", FileMode::Blob, remote.blob(b"")),
            ("latest", FileMode::Link, remote.blob(b"../outside/of it")),
            ("vendor/module", FileMode::Commit, module),
        ],
    );
    let entries = read(&write(&remote, &commit, "a.tar").unwrap());
    let expected = [
        ("README", entry(EntryType::Regular, 0o644, b"hello")),
        ("bin/", entry(EntryType::Directory, 0o755, b"")),
        ("bin/run", entry(EntryType::Regular, 0o755, b"#!/bin/sh\n")),
        (
            "data.bin",
            entry(EntryType::Regular, 0o644, pointer.as_bytes()),
        ),
        ("empty", entry(EntryType::Regular, 0o644, b"")),
        (
            "latest",
            entry(EntryType::Symlink, 0o777, b"../outside/of it"),
        ),
        ("vendor/", entry(EntryType::Directory, 0o755, b"")),
        ("vendor/module/", entry(EntryType::Directory, 0o755, b"")),
    ];
    let expected: BTreeMap<String, Entry> = expected
        .into_iter()
        .map(|(name, entry)| (name.to_owned(), entry))
        .collect();
    assert_eq!(entries, expected);
}

#[test]
fn what_the_tree_has_only_stand_ins_for_is_reported() {
    let remote = Remote::new();
    let module = Oid::from_str(&"1".repeat(40)).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let commit = remote.push_entries(
        "main",
        &[
            (
                "data/rows.bin",
                FileMode::Blob,
                remote.blob(pointer.as_bytes()),
            ),
            (
                "notes.md",
                FileMode::Blob,
                remote.blob(b"version https://example.org"),
            ),
            ("vendor/module", FileMode::Commit, module),
        ],
    );
    let path = remote.folder().join("sources/a.tar");
    let mirror = remote.fetched();
    let stand_ins = mirror.write_source_tar(&commit, &path, None, &CancelFlag::default());
    assert_eq!(
        stand_ins.unwrap().notes(),
        [
            "data/rows.bin is a pointer of Git LFS: its content is not in the source tree (`checkout: {lfs: true}` fetches it)",
            "vendor/module is a git submodule: its folder in the source tree is empty (`checkout: {submodules: true}` \
             fetches it)",
        ]
    );
}

#[test]
fn the_archive_unpacks_to_what_git_archive_unpacks_to() {
    let remote = Remote::new();
    let long = format!("{}/{}", "folder".repeat(20), "file".repeat(40));
    let link = "target".repeat(30);
    let commit = remote.push_entries(
        "main",
        &[
            (long.as_str(), FileMode::Blob, remote.blob(b"deep")),
            ("link", FileMode::Link, remote.blob(link.as_bytes())),
            ("naïve ☃.txt", FileMode::Blob, remote.blob(b"snow")),
            ("run", FileMode::BlobExecutable, remote.blob(b"x")),
        ],
    );
    let ours = write(&remote, &commit, "ours.tar").unwrap();
    let theirs = remote.folder().join("theirs.tar");
    let made = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "archive", "-o"])
        .arg(&theirs)
        .arg(commit.as_str())
        .env("GIT_DIR", remote.path())
        .status()
        .unwrap();
    assert!(made.success());
    let mut folders = Vec::new();
    let ours: Box<dyn Read> = Box::new(zstd::Decoder::new(File::open(ours).unwrap()).unwrap());
    let theirs: Box<dyn Read> = Box::new(File::open(theirs).unwrap());
    for (name, archive) in [("ours", ours), ("theirs", theirs)] {
        let folder = remote.folder().join(name);
        tar::Archive::new(archive).unpack(&folder).unwrap();
        folders.push(folder);
    }
    let same = std::process::Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args(&folders)
        .status()
        .unwrap();
    assert!(same.success());
}

#[test]
fn two_archives_of_a_commit_are_equal_and_nothing_else_is_left() {
    let remote = Remote::new();
    let commit = remote.push(
        "main",
        &[("b", "2"), ("a/c", "1"), ("a.b", "3"), ("a-b", "4")],
    );
    let one = fs::read(write(&remote, &commit, "one.tar").unwrap()).unwrap();
    let other = fs::read(write(&remote, &commit, "other.tar").unwrap()).unwrap();
    assert_eq!(one, other);
    assert_eq!(
        fs::read_dir(remote.folder().join("sources"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn names_that_lead_out_are_refused_and_nothing_is_written() {
    let remote = Remote::new();
    let file = remote.blob(b"x");
    let inner = remote.raw_tree(&[("100644", b"evil", file)]);
    let link = remote.blob(b"/tmp");
    let trees = [
        remote.raw_tree(&[("40000", b"..", inner)]),
        remote.raw_tree(&[("40000", b".", inner)]),
        remote.raw_tree(&[("40000", b".git", inner)]),
        remote.raw_tree(&[("40000", b".GIT", inner)]),
        remote.raw_tree(&[("100644", b"../evil", file)]),
        remote.raw_tree(&[("100644", b"/etc/cron.d/evil", file)]),
        remote.raw_tree(&[("100644", b"a/b", file)]),
        remote.raw_tree(&[("120000", b"a", link), ("40000", b"a", inner)]),
        remote.raw_tree(&[("120000", b"a", remote.blob(b""))]),
        remote.raw_tree(&[("40000", b"a", remote.raw_tree(&[("40000", b"..", inner)]))]),
    ];
    for tree in trees {
        let commit = remote.push_tree("main", tree, "Evil");
        let error = write(&remote, &commit, "evil.tar").unwrap_err();
        assert!(matches!(error, Error::UnsafeTree { .. }), "{error}");
    }
    assert_eq!(
        fs::read_dir(remote.folder().join("sources"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_tree_without_end_is_refused() {
    let remote = Remote::new();
    let mut wide = remote.raw_tree(&[("100644", b"x", remote.blob(b"x"))]);
    for _ in 0..30 {
        wide = remote.raw_tree(&[("40000", b"a", wide), ("40000", b"b", wide)]);
    }
    let mut deep = remote.raw_tree(&[("100644", b"x", remote.blob(b"x"))]);
    for _ in 0..1000 {
        deep = remote.raw_tree(&[("40000", b"a", deep)]);
    }
    for tree in [wide, deep] {
        let commit = remote.push_tree("main", tree, "A bomb");
        let error = write(&remote, &commit, "bomb.tar").unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}

#[test]
fn a_cancelled_or_impossible_archive_leaves_nothing() {
    let remote = Remote::new();
    let commit = remote.push("main", &[("a", "1")]);
    let mirror = remote.fetched();
    let cancel = CancelFlag::default();
    cancel.cancel();
    let to = remote.folder().join("sources/a.tar");
    assert_eq!(
        mirror.write_source_tar(&commit, &to, None, &cancel),
        Err(Error::Cancelled)
    );
    let unknown = CommitSha::new(&"a".repeat(40)).unwrap();
    assert!(
        mirror
            .write_source_tar(&unknown, &to, None, &CancelFlag::default())
            .is_err()
    );
    assert!(!to.exists());
    let below_a_file = remote.folder().join("model.git/HEAD/a.tar");
    let error = mirror
        .write_source_tar(&commit, &below_a_file, None, &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::Disk { .. }), "{error}");
}

#[test]
fn commits_of_one_tree_have_the_same_tree_and_others_another() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let same = remote.push("main", &[("a", "1")]);
    let other = remote.push("main", &[("a", "2")]);
    let mirror = remote.fetched();
    let tree = |commit| mirror.tree_of(commit).unwrap().to_string();
    assert_ne!(first, same);
    assert_eq!(tree(&first), tree(&same));
    assert_ne!(tree(&first), tree(&other));
}

#[test]
fn what_git_packs_into_little_takes_little_as_an_archive() {
    let remote = Remote::new();
    let commit = remote.push("main", &[("zeros", &"\0".repeat(64 << 20))]);
    let path = write(&remote, &commit, "zeros.tar").unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    assert_eq!(read(&path)["zeros"].text.len(), 64 << 20);
}
