//! After a fetch, a mirror has the remote's branches and tags, whatever happened there and here.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use trainyard_core::id::RepoId;
use trainyard_forge::{CancelFlag, CommitSha, Error, Git, Mirrors};
use uuid::Uuid;

use crate::remote::{Remote, limits, sha, worker};

fn branches(remote: &Remote) -> Vec<(String, CommitSha)> {
    remote.fetch().unwrap().branches.into_iter().collect()
}

#[test]
fn the_first_fetch_brings_branches_tags_and_the_default_branch() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let second = remote.push("release/1", &[("a", "2")]);
    remote.point("refs/tags/v1", &first);
    remote.annotated_tag("v2", &second);
    let heads = remote.fetch().unwrap();
    assert_eq!(heads.default_branch.as_deref(), Some("main"));
    assert_eq!(heads.branches["main"], first);
    assert_eq!(heads.branches["release/1"], second);
    assert_eq!(heads.tags["v1"], first);
    assert_eq!(
        heads.tags["v2"], second,
        "an annotated tag leads to its commit"
    );
}

#[test]
fn pushes_new_forced_and_deleted_branches_are_followed() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    remote.push("topic", &[("a", "2")]);
    assert_eq!(branches(&remote).len(), 2);
    let second = remote.push("main", &[("a", "3")]);
    remote.delete("refs/heads/topic");
    let other = remote.push("other", &[("b", "1")]);
    assert_eq!(
        branches(&remote),
        [
            ("main".to_owned(), second.clone()),
            ("other".to_owned(), other.clone())
        ]
    );
    remote.point("refs/heads/main", &first);
    assert_eq!(
        branches(&remote),
        [("main".to_owned(), first), ("other".to_owned(), other)]
    );
    assert!(
        remote.mirror().commit(&second).is_ok(),
        "the dropped commit stays readable"
    );
}

#[test]
fn a_moved_tag_is_followed_and_a_deleted_one_goes() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let second = remote.push("main", &[("a", "2")]);
    remote.point("refs/tags/latest", &first);
    remote.point("refs/tags/old", &first);
    assert_eq!(remote.fetch().unwrap().tags["latest"], first);
    remote.point("refs/tags/latest", &second);
    remote.delete("refs/tags/old");
    let tags = remote.fetch().unwrap().tags;
    assert_eq!(
        tags.into_iter().collect::<Vec<_>>(),
        [("latest".to_owned(), second)]
    );
}

#[test]
fn a_branch_may_become_a_folder_of_branches_and_back() {
    let remote = Remote::new();
    let first = remote.push("a", &[("x", "1")]);
    assert_eq!(branches(&remote), [("a".to_owned(), first.clone())]);
    remote.delete("refs/heads/a");
    remote.point("refs/heads/a/b", &first);
    assert_eq!(branches(&remote), [("a/b".to_owned(), first.clone())]);
    remote.delete("refs/heads/a/b");
    remote.point("refs/heads/a", &first);
    assert_eq!(branches(&remote), [("a".to_owned(), first)]);
}

#[test]
fn a_poll_that_finds_nothing_new_brings_nothing() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let heads = remote.fetch().unwrap();
    let packs = || {
        fs::read_dir(remote.mirror().path().join("objects/pack"))
            .unwrap()
            .count()
    };
    let before = packs();
    assert_eq!(remote.fetch().unwrap(), heads);
    assert_eq!(packs(), before);
}

#[test]
fn an_empty_remote_has_no_heads() {
    let heads = Remote::new().fetch().unwrap();
    assert_eq!(heads.default_branch, None);
    assert!(heads.branches.is_empty() && heads.tags.is_empty());
}

#[test]
fn a_tag_of_a_file_is_left_out() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let blob = remote.blob(b"key");
    remote
        .repository
        .reference("refs/tags/key", blob, true, "push")
        .unwrap();
    let heads = remote.fetch().unwrap();
    assert!(heads.tags.is_empty());
    assert_eq!(heads.branches.len(), 1);
}

#[test]
fn a_branch_whose_name_is_not_text_does_not_hide_the_others() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let name = OsStr::from_bytes(b"refs/heads/caf\xe9");
    fs::write(remote.path().join(name), format!("{first}\n")).unwrap();
    assert_eq!(branches(&remote), [("main".to_owned(), first)]);
}

#[test]
fn a_work_tree_in_use_is_followed_by_its_path() {
    let remote = Remote::new();
    let tree = remote.folder().join("work tree");
    let git = |args: &[&str]| {
        let ran = std::process::Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(args)
            .current_dir(&tree)
            .status()
            .unwrap();
        assert!(ran.success());
    };
    fs::create_dir(&tree).unwrap();
    git(&["init", "-q", "-b", "trunk"]);
    git(&["commit", "-q", "--allow-empty", "-m", "First"]);
    let url = tree.display().to_string();
    let heads = remote
        .mirror()
        .fetch(&url, None, &CancelFlag::default())
        .unwrap();
    assert_eq!(heads.default_branch.as_deref(), Some("trunk"));
    assert_eq!(
        remote
            .mirror()
            .commit(&heads.branches["trunk"])
            .unwrap()
            .summary,
        "First"
    );
}

#[test]
fn a_repository_with_the_longer_hashes_is_refused_with_a_message() {
    let remote = Remote::new();
    let path = remote.make_sha256("long.git");
    let url = path.display().to_string();
    let error = remote
        .mirror()
        .fetch(&url, None, &CancelFlag::default())
        .unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
}

#[test]
fn a_plain_path_is_an_address() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let path = remote.path().display().to_string();
    let heads = remote
        .mirror()
        .fetch(&path, None, &CancelFlag::default())
        .unwrap();
    assert_eq!(heads.branches["main"], first);
}

#[test]
fn a_remote_of_another_owner_is_fetched() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    // Only root can give files away; for other users the remote stays their own.
    let _ = std::os::unix::fs::chown(remote.path(), Some(65534), Some(65534));
    assert_eq!(branches(&remote), [("main".to_owned(), first)]);
}

#[test]
fn the_files_of_a_killed_fetch_do_not_stop_the_next() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let mirror = remote.fetched().path();
    let second = remote.push("main", &[("a", "2")]);
    let left = [
        "refs/heads/main.lock",
        "config.lock",
        "packed-refs.lock",
        "objects/pack/pack_git2_0011223344556677",
    ];
    for name in left {
        fs::write(mirror.join(name), "").unwrap();
    }
    assert_eq!(branches(&remote), [("main".to_owned(), second)]);
    assert!(left.iter().all(|name| !mirror.join(name).exists()));
}

#[test]
fn a_mirror_is_a_repository_that_git_takes_for_sound() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1"), ("dags/a.yaml", "stages: {}")]);
    let mirror = remote.fetched().path();
    let checked = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "fsck", "--full", "--strict"])
        .env("GIT_DIR", mirror)
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn fetches_at_the_same_time_wait_for_one_another() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let (url, mirror) = (remote.url(), remote.mirror());
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| mirror.fetch(&url, None, &CancelFlag::default())))
            .collect();
        for fetch in fetches {
            assert_eq!(fetch.join().unwrap().unwrap().branches["main"], first);
        }
    });
}

#[test]
fn places_without_a_repository_and_broken_ones_are_different_errors() {
    let remote = Remote::new();
    let file = remote.folder().join("file");
    fs::write(&file, "").unwrap();
    let folder = remote.folder().join("folder");
    fs::create_dir(&folder).unwrap();
    for path in [remote.folder().join("nowhere"), file, folder] {
        let url = path.display().to_string();
        let error = remote
            .mirror()
            .fetch(&url, None, &CancelFlag::default())
            .unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&url) && !error.is_retryable());
    }
}

#[test]
fn files_are_not_followed_unless_allowed() {
    let remote = Remote::new();
    let mirror = Mirrors::new(remote.folder().join("other")).mirror(RepoId(Uuid::nil()));
    let error = mirror
        .fetch(&remote.url(), None, &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::InvalidUrl { .. }), "{error}");
    assert!(!remote.folder().join("other").exists());
}

#[test]
fn addresses_that_name_a_command_run_nothing() {
    let remote = Remote::new();
    let marker = remote.folder().join("marker");
    let touch = format!("touch {}", marker.display());
    for url in [
        format!("ext::sh -c {touch}"),
        format!("--upload-pack={touch}"),
        format!("file://{}/.git;{touch}", remote.folder().display()),
        format!("ssh://-oProxyCommand={touch}/x"),
    ] {
        let error = remote
            .mirror()
            .fetch(&url, None, &CancelFlag::default())
            .unwrap_err();
        assert!(
            matches!(error, Error::InvalidUrl { .. } | Error::NotFound { .. }),
            "{error}"
        );
    }
    assert!(!marker.exists());
}

#[test]
fn a_remote_that_sends_too_much_is_stopped() {
    let remote = Remote::new();
    // Does not compress: the digits of hashes that depend on one another.
    let mut noise = String::new();
    let mut last = remote.blob(b"seed");
    while noise.len() < 2 << 20 {
        last = git2::Oid::hash_object(git2::ObjectType::Blob, last.as_bytes()).unwrap();
        noise.push_str(&last.to_string());
    }
    remote.push("main", &[("noise", &noise)]);
    let small = remote
        .mirrors()
        .with_limits(limits(|limits| limits.bytes = 64 << 10));
    let mirror = small.mirror(RepoId(Uuid::nil()));
    let error = mirror
        .fetch(&remote.url(), None, &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    assert!(remote.fetch().is_ok(), "with room for it, it comes");
}

#[test]
fn a_remote_with_too_many_branches_is_refused() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    remote.point("refs/heads/b", &first);
    remote.point("refs/tags/c", &first);
    let few = remote
        .mirrors()
        .with_limits(limits(|limits| limits.refs = 2));
    let error = few
        .mirror(RepoId(Uuid::nil()))
        .fetch(&remote.url(), None, &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn a_cancelled_fetch_brings_nothing() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let cancel = CancelFlag::default();
    cancel.cancel();
    let error = remote
        .mirror()
        .fetch(&remote.url(), None, &cancel)
        .unwrap_err();
    assert_eq!(error, Error::Cancelled);
    assert!(remote.mirror().resolve("main").is_err());
}

#[test]
fn a_repo_that_was_never_fetched_or_was_removed_says_so() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let not_fetched = Error::NotFetched {
        repo: RepoId(Uuid::nil()).to_string(),
    };
    assert_eq!(remote.mirror().resolve("main").unwrap_err(), not_fetched);
    assert!(remote.mirror().remove().is_ok(), "nothing to remove");
    let mirror = remote.fetched();
    mirror.remove().unwrap();
    assert_eq!(mirror.dag_files(&first).unwrap_err(), not_fetched);
    assert_eq!(
        fs::read_dir(remote.folder().join("mirrors"))
            .unwrap()
            .count(),
        0
    );
    assert!(remote.fetch().is_ok());
}

#[test]
fn a_damaged_mirror_says_which_folder_to_remove() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let mirror = remote.fetched();
    fs::write(mirror.path().join("config"), "[core").unwrap();
    let error = mirror.resolve("main").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&mirror.path().display().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn asynchronous_callers_get_the_same_answers() {
    let remote = Remote::new();
    let first = remote.push("main", &[("dags/a.yaml", "x")]);
    let second = remote.push("main", &[("b", "y")]);
    let (git, repo) = (Git::new(remote.mirrors(), worker()), RepoId(Uuid::nil()));
    let fetches = (0..6).map(|_| git.fetch(repo, remote.url(), None));
    let mut set = tokio::task::JoinSet::new();
    for _ in fetches {
        let (git, url) = (git.clone(), remote.url());
        set.spawn(async move { git.fetch(repo, url, None).await });
    }
    for heads in set.join_all().await {
        assert_eq!(heads.unwrap().branches["main"], second);
    }
    assert_eq!(git.resolve(repo, "main".to_owned()).await.unwrap(), second);
    assert_eq!(
        git.commit(repo, first.clone()).await.unwrap().summary,
        "A change"
    );
    assert_eq!(git.dag_files(repo, first.clone()).await.unwrap().len(), 1);
    assert!(
        git.is_ancestor(repo, first.clone(), second.clone())
            .await
            .unwrap()
    );
    let changed = git
        .changed_paths(repo, Some(first), second.clone())
        .await
        .unwrap();
    assert_eq!(changed.unwrap(), ["b"]);
    let archive = remote.folder().join("sources/a.tar");
    git.write_source_tar(repo, second.clone(), archive.clone(), None)
        .await
        .unwrap();
    assert!(archive.exists());
    git.remove(repo).await.unwrap();
    assert!(git.commit(repo, second).await.is_err());
}

#[test]
fn a_remote_that_was_recreated_is_followed() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    assert_eq!(branches(&remote), [("main".to_owned(), first)]);
    let tree = remote.raw_tree(&[("100644", b"z", remote.blob(b"new"))]);
    remote.delete("refs/heads/main");
    let recreated = remote.push_tree("main", tree, "A new beginning");
    assert_eq!(branches(&remote), [("main".to_owned(), recreated.clone())]);
    assert_eq!(
        sha(remote.repository.refname_to_id("refs/heads/main").unwrap()),
        recreated
    );
}
