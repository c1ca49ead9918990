//! Remotes over ssh: fetched with their key from the known host, and every failure reported in plain words.

use std::time::Duration;

use trainyard_core::id::RepoId;
use trainyard_forge::{CancelFlag, Credentials, Error, FetchLimits, Git, Heads};
use uuid::Uuid;

use crate::remote::{Remote, worker};
use crate::server::Server;
use crate::sshd::Sshd;

fn fetch(remote: &Remote, url: &str, key: &Credentials) -> Result<Heads, Error> {
    remote
        .mirror()
        .fetch(url, Some(key), &CancelFlag::default())
}

#[test]
fn branches_tags_and_the_default_branch_come_over_ssh_and_later_what_is_new() {
    let remote = Remote::new();
    let sshd = Sshd::start(remote.folder());
    let (url, key) = (sshd.url(&remote.path()), sshd.key("client", "host"));
    let first = remote.push("main", &[("README", "one")]);
    remote.annotated_tag("v1", &first);
    let heads = fetch(&remote, &url, &key).unwrap();
    assert_eq!(heads.default_branch.as_deref(), Some("main"));
    assert_eq!(
        (&heads.branches["main"], &heads.tags["v1"]),
        (&first, &first)
    );
    let second = remote.push("main", &[("README", "two")]);
    assert_eq!(fetch(&remote, &url, &key).unwrap().branches["main"], second);
    assert_eq!(fetch(&remote, &url, &key).unwrap().branches["main"], second);
    let info = remote.mirror().commit(&second).unwrap();
    assert_eq!(info.summary, "A change");
}

#[tokio::test]
async fn gits_process_fetches_over_ssh() {
    let remote = Remote::new();
    let sshd = Sshd::start(remote.folder());
    let first = remote.push("main", &[("README", "one")]);
    let git = Git::new(remote.mirrors(), worker());
    let (url, key) = (sshd.url(&remote.path()), sshd.key("client", "host"));
    let heads = git.fetch(RepoId(Uuid::nil()), url, Some(key)).await;
    assert_eq!(heads.unwrap().branches["main"], first);
}

#[test]
fn class_12_a_host_that_is_not_known_never_sees_the_key() {
    let remote = Remote::new();
    let sshd = Sshd::start(remote.folder());
    let url = sshd.url(&remote.path());
    let error = fetch(&remote, &url, &sshd.key("client", "another-host")).unwrap_err();
    assert!(
        matches!(&error, Error::Untrusted { why, .. } if why.contains("differs")),
        "{error}"
    );
    let Credentials::SshKey(mut key) = sshd.key("client", "host") else {
        unreachable!()
    };
    key.known_hosts = key.known_hosts.replace("127.0.0.1", "other.example");
    let error = fetch(&remote, &url, &Credentials::SshKey(key)).unwrap_err();
    assert!(matches!(&error, Error::Untrusted { .. }), "{error}");
    assert!(!sshd.log().contains("Accepted"), "{}", sshd.log());
}

#[test]
fn a_rejected_key_and_a_missing_repository_are_different_errors() {
    let remote = Remote::new();
    let sshd = Sshd::start(remote.folder());
    let url = sshd.url(&remote.path());
    let error = fetch(&remote, &url, &sshd.key("another-client", "host")).unwrap_err();
    assert!(
        matches!(error, Error::AuthenticationFailed { .. }),
        "{error}"
    );
    let elsewhere = sshd.url(&remote.folder().join("nowhere.git"));
    let error = fetch(&remote, &elsewhere, &sshd.key("client", "host")).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let error = remote
        .mirror()
        .fetch(&url, None, &CancelFlag::default())
        .unwrap_err();
    assert!(error.to_string().contains("--ssh-key"), "{error}");
}

#[test]
fn class_12_a_path_is_not_a_command() {
    let remote = Remote::new();
    let sshd = Sshd::start(remote.folder());
    let canary = remote.folder().join("canary");
    let path = format!("/x';touch {};'", canary.display());
    let url = sshd.url(std::path::Path::new(&path));
    assert!(fetch(&remote, &url, &sshd.key("client", "host")).is_err());
    assert!(sshd.log().contains("Accepted"), "{}", sshd.log());
    assert!(!canary.exists());
}

#[test]
fn class_13_a_silent_host_is_abandoned() {
    let remote = Remote::new();
    let sshd = Sshd::start(remote.folder());
    let silent = Server::silent();
    let url = silent.url("x").replace("http://", "ssh://git@");
    let limits = FetchLimits {
        time: Duration::from_secs(1),
        ..FetchLimits::default()
    };
    let mirror = remote
        .mirrors()
        .with_limits(limits)
        .mirror(RepoId(Uuid::nil()));
    let key = sshd.key("client", "host");
    let error = mirror
        .fetch(&url, Some(&key), &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[test]
fn a_key_is_for_ssh_and_a_password_for_http() {
    let remote = Remote::new();
    let sshd = Sshd::start(remote.folder());
    let key = sshd.key("client", "host");
    let error = fetch(&remote, "https://example.org/x", &key).unwrap_err();
    assert!(error.to_string().contains("--password-stdin"), "{error}");
}
