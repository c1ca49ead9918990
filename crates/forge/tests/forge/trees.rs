//! DAG files are read at a commit, and the paths that a push changed are reported, whatever the tree holds.

use git2::FileMode;
use trainyard_forge::git::{MAX_CHANGED_PATHS, MAX_DAG_BYTES, MAX_DAG_FILE_BYTES, MAX_DAG_FILES};
use trainyard_forge::{CommitSha, DagFileText, PathEntry};

use crate::remote::{Remote, oid};

fn paths(files: &[DagFileText]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn dag_files_are_those_directly_in_dags_at_that_commit() {
    let remote = Remote::new();
    let first = remote.push(
        "main",
        &[
            ("dags/b.yml", "b"),
            ("dags/a.yaml", "a"),
            ("dags/README.md", ""),
            ("dags/.hidden.yaml", ""),
            ("dags/retrain/dag.yaml", ""),
            ("dags/deep.yaml/x.yaml", ""),
            ("elsewhere/dags/c.yaml", ""),
            ("top.yaml", ""),
        ],
    );
    let second = remote.push("main", &[("dags/a.yaml", "changed")]);
    let mirror = remote.fetched();
    let files = mirror.dag_files(&first).unwrap();
    assert_eq!(paths(&files), ["dags/a.yaml", "dags/b.yml"]);
    assert_eq!(files[0].text.as_deref(), Ok("a"));
    assert_eq!(
        mirror.dag_files(&second).unwrap()[0].text.as_deref(),
        Ok("changed")
    );
}

#[test]
fn entries_at_paths_are_listed_and_those_below_a_link_are_not() {
    let remote = Remote::new();
    let first = remote.push("main", &[("image/Dockerfile", "FROM x"), ("a", "1")]);
    let link = remote.blob(b"image");
    let second = remote.push_entries("link", &[("link", FileMode::Link, link)]);
    let mirror = remote.fetched();
    let entries = |commit: &CommitSha, paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        mirror.entries(commit, &paths).unwrap()
    };
    assert_eq!(
        entries(
            &first,
            &[
                ".",
                "image",
                "image/Dockerfile",
                "a",
                "b",
                "b/c",
                "a/x",
                "image/x"
            ]
        ),
        [
            PathEntry::Folder,
            PathEntry::Folder,
            PathEntry::File,
            PathEntry::File,
            PathEntry::Missing,
            PathEntry::Missing,
            PathEntry::Missing,
            PathEntry::Missing,
        ]
    );
    assert_eq!(
        entries(&second, &["link", "link/Dockerfile"]),
        [PathEntry::Unknown, PathEntry::Unknown]
    );
}

#[test]
fn a_commit_without_dags_has_none() {
    let remote = Remote::new();
    let without = remote.push("main", &[("a", "1")]);
    let as_file = remote.push("main", &[("dags", "a file")]);
    let link = remote.blob(b"/etc");
    let as_link = remote.push_entries("link", &[("dags", FileMode::Link, link)]);
    let mirror = remote.fetched();
    for commit in [without, as_file, as_link] {
        assert_eq!(mirror.dag_files(&commit).unwrap(), []);
    }
}

#[test]
fn a_file_that_cannot_be_taken_says_why_and_the_others_are_read() {
    let remote = Remote::new();
    let commit = remote.push_entries(
        "main",
        &[
            ("dags/good.yaml", FileMode::Blob, remote.blob(b"good")),
            (
                "dags/large.yaml",
                FileMode::Blob,
                remote.blob(&vec![b'#'; MAX_DAG_FILE_BYTES + 1]),
            ),
            ("dags/latin.yaml", FileMode::Blob, remote.blob(b"caf\xe9")),
            (
                "dags/link.yaml",
                FileMode::Link,
                remote.blob(b"/etc/passwd"),
            ),
        ],
    );
    let files = remote.fetched().dag_files(&commit).unwrap();
    assert_eq!(files[0].text.as_deref(), Ok("good"));
    for (file, why) in files[1..]
        .iter()
        .zip(["1 MiB", "offset 3", "symbolic link"])
    {
        assert!(file.text.as_ref().unwrap_err().contains(why), "{file:?}");
    }
    assert_eq!(files.len(), 4);
}

#[test]
fn odd_names_of_dag_files_are_shown_harmlessly() {
    let remote = Remote::new();
    let file = remote.blob(b"x");
    let dags = remote.raw_tree(&[
        ("100644", b"../up.yaml", file),
        ("100644", b"\x1b[31m.yaml", file),
        ("100644", b"caf\xe9.yaml", file),
    ]);
    let root = remote.raw_tree(&[("40000", b"dags", dags)]);
    let commit = remote.push_tree("main", root, "Odd");
    let files = remote.fetched().dag_files(&commit).unwrap();
    assert_eq!(paths(&files), ["dags/ [31m.yaml", "dags/caf\u{fffd}.yaml"]);
    assert!(files[1].text.as_ref().unwrap_err().contains("UTF-8"));
}

#[test]
fn files_beyond_the_bound_are_refused_in_one_entry() {
    let remote = Remote::new();
    let names: Vec<String> = (0..MAX_DAG_FILES + 20)
        .map(|n| format!("dags/{n:04}.yaml"))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let commit = remote.push("main", &files);
    let files = remote.fetched().dag_files(&commit).unwrap();
    assert_eq!(files.len(), MAX_DAG_FILES + 1);
    assert!(files[..MAX_DAG_FILES].iter().all(|file| file.text.is_ok()));
    assert!(
        files[MAX_DAG_FILES]
            .text
            .as_ref()
            .unwrap_err()
            .contains("not read")
    );
}

#[test]
fn files_that_are_too_large_together_are_refused_in_one_entry() {
    let remote = Remote::new();
    let text = "x".repeat(MAX_DAG_FILE_BYTES);
    let whole = MAX_DAG_BYTES / MAX_DAG_FILE_BYTES;
    let names: Vec<String> = (0..whole + 20)
        .map(|n| format!("dags/{n:03}.yaml"))
        .collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), text.as_str()))
        .collect();
    let commit = remote.push("main", &files);
    let files = remote.fetched().dag_files(&commit).unwrap();
    let (last, read) = files.split_last().unwrap();
    assert_eq!(read.len(), whole + 1, "up to the one that is over it");
    assert!(read.iter().all(|file| file.text.is_ok()));
    assert!(last.text.as_ref().unwrap_err().contains("16 MiB; this one"));
}

#[test]
fn changed_paths_are_listed_on_both_sides() {
    let remote = Remote::new();
    let before = remote.push(
        "main",
        &[
            ("kept", "1"),
            ("changed", "1"),
            ("gone", "1"),
            ("src/deep/file", "1"),
            ("src/kept", "1"),
        ],
    );
    remote.push(
        "main",
        &[("changed", "2"), ("new/file", "1"), ("src/deep/file", "2")],
    );
    let after = remote.push_removal("main", &["gone"]);
    let mirror = remote.fetched();
    let there = mirror
        .changed_paths(Some(&before), &after)
        .unwrap()
        .unwrap();
    assert_eq!(there, ["changed", "gone", "new/file", "src/deep/file"]);
    let back = mirror
        .changed_paths(Some(&after), &before)
        .unwrap()
        .unwrap();
    assert_eq!(back, there, "a forced push back changes the same paths");
    assert_eq!(
        mirror.changed_paths(Some(&after), &after).unwrap().unwrap(),
        [""; 0]
    );
}

#[test]
fn a_file_that_became_a_folder_or_executable_has_changed() {
    let remote = Remote::new();
    let before = remote.push("main", &[("a", "1"), ("run", "1")]);
    remote.push_removal("main", &["a"]);
    remote.push("main", &[("a/b", "1")]);
    let run = remote.blob(b"1");
    let after = remote.push_entries("main", &[("run", FileMode::BlobExecutable, run)]);
    let changed = remote
        .fetched()
        .changed_paths(Some(&before), &after)
        .unwrap()
        .unwrap();
    assert_eq!(changed, ["a", "a/b", "run"]);
}

#[test]
fn changes_are_unknown_for_a_new_branch_a_lost_commit_and_too_many_paths() {
    let remote = Remote::new();
    let before = remote.push("main", &[("a", "1")]);
    let names: Vec<String> = (0..=MAX_CHANGED_PATHS)
        .map(|n| format!("many/{n}"))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let after = remote.push("main", &files);
    let mirror = remote.fetched();
    let lost = CommitSha::new(&"a".repeat(40)).unwrap();
    assert_eq!(mirror.changed_paths(None, &after).unwrap(), None);
    assert_eq!(mirror.changed_paths(Some(&lost), &after).unwrap(), None);
    assert_eq!(mirror.changed_paths(Some(&before), &after).unwrap(), None);
    assert!(mirror.changed_paths(Some(&before), &lost).is_err());
}

#[test]
fn a_tree_that_holds_itself_many_times_over_is_not_walked_to_the_end() {
    let remote = Remote::new();
    let before = remote.push("main", &[("a", "1")]);
    let mut tree = remote.raw_tree(&[]);
    for _ in 0..30 {
        tree = remote.raw_tree(&[
            ("40000", b"a", tree),
            ("40000", b"b", tree),
            ("40000", b"c", tree),
            ("40000", b"d", tree),
        ]);
    }
    let after = remote.push_tree("main", tree, "A bomb");
    let mirror = remote.fetched();
    assert_eq!(mirror.changed_paths(Some(&before), &after).unwrap(), None);
    assert_ne!(oid(&before), oid(&after));
}
