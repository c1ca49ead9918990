//! Remotes that send costly data: it is rejected by its size, or ends git's process and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use git2::ObjectType;
use secrecy::SecretString;
use trainyard_core::id::RepoId;
use trainyard_forge::{CancelFlag, CommitQuery, CommitSha, Credentials, Error, Git, Login};
use uuid::Uuid;

use crate::remote::{Remote, oid, worker};
use crate::server::Server;

const LIST: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n";

fn repo(n: u128) -> RepoId {
    RepoId(Uuid::from_u128(n))
}

fn git(folder: &Path, arguments: &[&str]) {
    let ran = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{arguments:?}: {said}");
}

/// A repository of some hundred kilobytes that has a file of `mebibytes` zeros and a delta of it.
fn delta_bomb(folder: &Path, mebibytes: u64) -> PathBuf {
    let path = folder.join("bomb");
    std::fs::create_dir(&path).unwrap();
    git(&path, &["init", "-q", "-b", "main", "."]);
    for (key, value) in [("core.bigFileThreshold", "4g"), ("pack.windowMemory", "0")] {
        git(&path, &["config", key, value]);
    }
    let file = std::fs::File::create(path.join("zeros")).unwrap();
    file.set_len(mebibytes << 20).unwrap();
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-qm", "Zeros"]);
    file.set_len((mebibytes << 20) + 1).unwrap();
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-qm", "One more"]);
    git(&path, &["repack", "-adfq", "--window=2", "--depth=5"]);
    path
}

#[test]
fn class_13_pipes_among_the_files_of_a_repository_on_disk_are_not_waited_for() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let checkout = remote.folder().join("checkout");
    git(remote.folder(), &["clone", "-q", "model.git", "checkout"]);
    git(&checkout, &["worktree", "add", "-q", "--detach", "../tree"]);
    let url = |folder: &Path| folder.display().to_string();
    let fetch = |folder: &Path| {
        remote
            .mirror()
            .fetch(&url(folder), None, &CancelFlag::default())
    };
    let tree = remote.folder().join("tree");
    for folder in [&checkout, &tree] {
        fetch(folder).unwrap();
    }
    let begun = Instant::now();
    for (file, seen_by) in [
        (".git/config", [&checkout, &tree]),
        (".git/HEAD", [&checkout, &checkout]),
        (".git/index", [&checkout, &checkout]),
        (".git/packed-refs", [&checkout, &tree]),
        (".git/commondir", [&checkout, &checkout]),
        (".git/objects/info/alternates", [&checkout, &tree]),
    ] {
        let (path, aside) = (checkout.join(file), remote.folder().join("aside"));
        let was_there = std::fs::rename(&path, &aside).is_ok();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for folder in seen_by {
            let error = fetch(folder).unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{error}");
            let named = error.to_string();
            assert!(
                named.contains(file) && named.contains("is not a regular file"),
                "{named}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        if was_there {
            std::fs::rename(&aside, &path).unwrap();
        }
    }
    std::fs::remove_dir_all(checkout.join(".git")).unwrap();
    nix::unistd::mkfifo(&checkout.join(".git"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fetch(&checkout).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_file_that_unpacks_to_more_than_git_may_take_ends_its_process_alone() {
    let remote = Remote::new();
    let good = remote.push("main", &[("dags/a.yaml", "x")]);
    delta_bomb(remote.folder(), 200);
    let server = Server::of_repositories(remote.folder(), None);
    let git = Git::new(remote.mirrors(), worker().with_memory(128 << 20));
    let error = git
        .fetch(repo(1), server.url("bomb/.git"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    assert!(error.is_costly() && !error.is_retryable());
    let message = error.to_string();
    assert!(
        message.contains("bomb/.git") && message.contains("128 MiB"),
        "{message}"
    );
    assert!(message.contains("`git.memory`"), "{message}");
    let left = std::fs::read_dir(
        remote
            .folder()
            .join(format!("mirrors/{}.git/objects/pack", repo(1))),
    );
    assert_eq!(left.unwrap().count(), 0, "nothing is left on the disk");
    let heads = git
        .fetch(repo(2), server.url("model.git"), None)
        .await
        .unwrap();
    assert_eq!(heads.branches["main"], good, "with the same bound");
}

/// A commit with a message of this many bytes.
fn long_commit(remote: &Remote, onto: &CommitSha, bytes: usize) -> CommitSha {
    let tree = remote.repository.find_commit(oid(onto)).unwrap().tree_id();
    let message = "a".repeat(bytes);
    let text = format!(
        "tree {tree}\nauthor a <a@b> 1700000000 +0000\ncommitter a <a@b> 1700000000 +0000\n\n{message}"
    );
    let odb = remote.repository.odb().unwrap();
    let id = odb.write(ObjectType::Commit, text.as_bytes()).unwrap();
    CommitSha::new(&id.to_string()).unwrap()
}

#[test]
fn a_commit_with_a_huge_message_is_refused_and_the_other_branches_are_not() {
    let remote = Remote::new();
    let good = remote.push("main", &[("dags/a.yaml", "x")]);
    let bomb = long_commit(&remote, &good, 2 << 20);
    remote.point("refs/heads/bomb", &bomb);
    remote.point("refs/tags/bomb", &bomb);
    let heads = remote.fetch().unwrap();
    assert_eq!(
        heads.branches.into_iter().collect::<Vec<_>>(),
        [("main".to_owned(), good)]
    );
    assert!(
        heads.refused["bomb"].contains("1 MiB"),
        "{:?}",
        heads.refused
    );
    let mirror = remote.mirror();
    for error in [
        mirror.commit(&bomb).unwrap_err(),
        mirror.dag_files(&bomb).unwrap_err(),
        mirror.changed_paths(None, &bomb).unwrap_err(),
    ] {
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    assert!(mirror.resolve("bomb").is_err());
}

#[test]
fn a_commit_with_a_hundred_thousand_parents_is_refused() {
    let remote = Remote::new();
    let good = remote.push("main", &[("a", "1")]);
    let tree = remote.repository.find_commit(oid(&good)).unwrap().tree_id();
    let parents = format!("parent {good}\n").repeat(100_000);
    let text = format!(
        "tree {tree}\n{parents}author a <a@b> 1700000000 +0000\ncommitter a <a@b> 1700000000 +0000\n\nx"
    );
    let odb = remote.repository.odb().unwrap();
    let id = odb.write(ObjectType::Commit, text.as_bytes()).unwrap();
    remote.point("refs/heads/wide", &CommitSha::new(&id.to_string()).unwrap());
    let server = Server::of_repositories(remote.folder(), None);
    let fetch = || {
        remote
            .mirror()
            .fetch(&server.url("model.git"), None, &CancelFlag::default())
    };
    let heads = fetch().unwrap();
    assert_eq!(fetch().unwrap(), heads, "again and again");
    assert!(heads.refused.contains_key("wide") && heads.branches.contains_key("main"));
}

#[test]
fn a_tag_of_a_tag_of_a_tag_without_end_is_left_out() {
    let remote = Remote::new();
    let good = remote.push("main", &[("a", "1")]);
    let odb = remote.repository.odb().unwrap();
    let (mut id, mut kind) = (oid(&good), "commit");
    for n in 0..10_000 {
        let text =
            format!("object {id}\ntype {kind}\ntag t{n}\ntagger a <a@b> 1700000000 +0000\n\nx");
        id = odb.write(ObjectType::Tag, text.as_bytes()).unwrap();
        kind = "tag";
    }
    remote.point("refs/tags/deep", &CommitSha::new(&id.to_string()).unwrap());
    let heads = remote.fetch().unwrap();
    assert!(heads.tags.is_empty() && heads.branches.contains_key("main"));
}

#[test]
fn names_that_are_not_utf_8_are_counted_and_the_others_followed() {
    let remote = Remote::new();
    let good = remote.push("main", &[("a", "1")]);
    let mut packed = Vec::new();
    for n in 0..2_000 {
        packed.extend(format!("{good} refs/heads/").as_bytes());
        packed.extend([0xff, 0xfe]);
        packed.extend(format!("{n:05}\n").as_bytes());
    }
    std::fs::write(remote.path().join("packed-refs"), packed).unwrap();
    let server = Server::of_repositories(remote.folder(), None);
    for url in [remote.url(), server.url("model.git")] {
        let heads = remote
            .mirror()
            .fetch(&url, None, &CancelFlag::default())
            .unwrap();
        assert_eq!((heads.branches.len(), heads.left_out), (1, 2_000), "{url}");
    }
}

#[test]
fn a_list_of_branches_without_end_is_stopped() {
    let server = Server::endless(
        LIST,
        b"003fd6cf7e0b868509586aa57ff03d0a362a6f95aa00 refs/heads/aaaaaa\n",
    );
    let begun = Instant::now();
    let error = Remote::new()
        .mirror()
        .fetch(&server.url("x"), None, &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn headers_without_end_are_stopped() {
    let server = Server::endless("HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n");
    let begun = Instant::now();
    let error = Remote::new()
        .mirror()
        .fetch(&server.url("x"), None, &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// The child processes of this process that still exist.
fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("children")).unwrap_or_default()
    };
    let children: String = tasks.map(|task| of(task.unwrap())).collect();
    children
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn gits_process_inherits_nothing_and_ends_with_its_caller() {
    let silent = Server::silent();
    let remote = Remote::new();
    let git = Git::new(remote.mirrors(), worker());
    let login = Credentials::Login(Login {
        username: "ada".to_owned(),
        password: SecretString::from("canary-password"),
    });
    let fetch = git.fetch(repo(1), silent.url("x"), Some(login));
    let mut fetch = Box::pin(fetch);
    let begun = Instant::now();
    let child = loop {
        let _ = tokio::time::timeout(Duration::from_millis(20), &mut fetch).await;
        // Before it has become another program it still looks like this one.
        let is_git = |id: &u32| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            line.starts_with(b"trainyard")
        };
        if let Some(child) = children().into_iter().find(is_git) {
            break child;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no process came");
    };
    let environment = std::fs::read(format!("/proc/{child}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    for variable in environment.split('\0') {
        let name = variable.split('=').next().unwrap();
        assert!(!["HOME", "PATH", "USER"].contains(&name), "{environment}");
        assert!(!name.starts_with("GIT_"), "{environment}");
    }
    let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("canary"));
    drop(fetch);
    let begun = Instant::now();
    while children().contains(&child) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn one_call_answers_every_question_about_a_commit() {
    let remote = Remote::new();
    let first = remote.push(
        "main",
        &[("dags/a.yaml", "stages: {}\u{0}\u{1}ä"), ("dags/b.yml", "")],
    );
    let second = remote.push("main", &[("src/x.py", "1")]);
    let git = Git::new(remote.mirrors(), worker());
    git.fetch(repo(1), remote.url(), None).await.unwrap();
    let query = CommitQuery {
        after: second.clone(),
        dag_files: true,
        changed_since: Some(Some(first.clone())),
    };
    let seen = git.read_commit(repo(1), query).await.unwrap();
    assert_eq!(seen.commit.sha, second);
    assert_eq!(seen.changed.unwrap(), ["src/x.py"]);
    let texts: Vec<_> = seen
        .dag_files
        .into_iter()
        .map(|file| file.text.unwrap())
        .collect();
    assert_eq!(texts, ["stages: {}\u{0}\u{1}ä", ""], "byte for byte");
    let query = CommitQuery {
        after: first,
        dag_files: false,
        changed_since: None,
    };
    let seen = git.read_commit(repo(1), query).await.unwrap();
    assert!(seen.dag_files.is_empty() && seen.changed.is_none());
}

#[test]
fn names_of_many_parts_make_no_folders_in_the_mirror() {
    let remote = Remote::new();
    let good = remote.push("main", &[("a", "1")]);
    let deep = |n| format!("r{n}{}", "/a".repeat(400));
    let packed: String = (0..10)
        .map(|n| format!("{good} refs/heads/{}\n", deep(n)))
        .collect();
    std::fs::write(remote.path().join("packed-refs"), packed).unwrap();
    // As an earlier version left it.
    let mirror = remote.fetched();
    std::fs::create_dir_all(mirror.path().join("refs/heads/old")).unwrap();
    std::fs::write(mirror.path().join("refs/heads/old/a"), format!("{good}\n")).unwrap();
    let heads = remote.fetch().unwrap();
    assert_eq!(heads.branches.len(), 11);
    assert_eq!(heads.branches[&deep(3)], good);
    assert_eq!(mirror.resolve(&deep(3)).unwrap(), good);
    for kind in ["refs/heads", "refs/tags"] {
        let inside = mirror.path().join(kind).read_dir().unwrap();
        assert_eq!(inside.count(), 0, "{kind}");
    }
}
