//! Remotes over http: fetched with credentials, and every failure reported in plain words.

use std::time::Duration;

use secrecy::SecretString;
use trainyard_core::id::RepoId;
use trainyard_forge::{CancelFlag, Credentials, Error, Git, Heads, Login};
use uuid::Uuid;

use crate::remote::{Remote, limits, worker};
use crate::server::{Server, response};

const LOGIN: &str = "ada:geheim+/?";

fn credentials(password: &str) -> Credentials {
    Credentials::Login(Login {
        username: "ada".to_owned(),
        password: SecretString::from(password.to_owned()),
    })
}

fn fetch(remote: &Remote, url: &str, credentials: Option<&Credentials>) -> Result<Heads, Error> {
    remote
        .mirror()
        .fetch(url, credentials, &CancelFlag::default())
}

fn failure(server: &Server) -> Error {
    let error = fetch(&Remote::new(), &server.url("model.git"), None).unwrap_err();
    assert!(
        error.to_string().contains(&server.url("model.git")),
        "{error}"
    );
    error
}

#[test]
fn a_repository_is_fetched_over_http_again_and_again() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    remote.annotated_tag("v1", &first);
    let server = Server::of_repositories(remote.folder(), None);
    let heads = fetch(&remote, &server.url("model.git"), None).unwrap();
    assert_eq!(heads.default_branch.as_deref(), Some("main"));
    assert_eq!(
        (&heads.branches["main"], &heads.tags["v1"]),
        (&first, &first)
    );
    let second = remote.push("main", &[("a", "2"), ("dags/a.yaml", "x")]);
    remote.push("topic", &[("b", "1")]);
    let heads = fetch(&remote, &server.url("model.git"), None).unwrap();
    assert_eq!(
        (heads.branches.len(), &heads.branches["main"]),
        (2, &second)
    );
    assert_eq!(remote.mirror().dag_files(&second).unwrap().len(), 1);
    let before = server.seen().len();
    assert_eq!(
        fetch(&remote, &server.url("model.git"), None).unwrap(),
        heads
    );
    assert_eq!(
        server.seen().len(),
        before + 1,
        "a poll that finds nothing is one request"
    );
}

#[test]
fn a_branch_whose_name_is_too_long_for_a_file_does_not_hide_the_others() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let packed = format!("{first} refs/heads/{}\n", "long".repeat(100));
    std::fs::write(remote.path().join("packed-refs"), packed).unwrap();
    let server = Server::of_repositories(remote.folder(), None);
    let heads = fetch(&remote, &server.url("model.git"), None).unwrap();
    assert_eq!(
        heads.branches.into_iter().collect::<Vec<_>>(),
        [("main".to_owned(), first)]
    );
}

#[test]
fn a_repository_with_the_longer_hashes_is_refused_over_http_too() {
    let remote = Remote::new();
    remote.make_sha256("long.git");
    let server = Server::of_repositories(remote.folder(), None);
    let error = fetch(&remote, &server.url("long.git"), None).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
}

#[test]
fn credentials_open_a_private_repository() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let server = Server::of_repositories(remote.folder(), Some(LOGIN));
    let given = credentials("geheim+/?");
    let heads = fetch(&remote, &server.url("model.git"), Some(&given)).unwrap();
    assert_eq!(heads.branches["main"], first);
    let second = remote.push("main", &[("a", "2")]);
    let embedded = format!(
        "http://ada:geheim+%2F%3F@127.0.0.1:{}/model.git",
        server.port()
    );
    assert_eq!(
        fetch(&remote, &embedded, None).unwrap().branches["main"],
        second
    );
}

#[test]
fn a_wrong_password_is_shown_once() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let server = Server::of_repositories(remote.folder(), Some(LOGIN));
    let wrong = credentials("canary-password");
    let error = fetch(&remote, &server.url("model.git"), Some(&wrong)).unwrap_err();
    assert!(
        matches!(error, Error::AuthenticationFailed { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("not accepted"), "{error}");
    assert!(!format!("{error} {error:?} {wrong:?}").contains("canary"));
    let shown = server
        .seen()
        .iter()
        .filter(|seen| seen.header("authorization").is_some())
        .count();
    assert_eq!(shown, 1);
}

#[test]
fn a_private_repository_without_credentials_says_so() {
    let remote = Remote::new();
    let server = Server::of_repositories(remote.folder(), Some(LOGIN));
    let error = fetch(&remote, &server.url("model.git"), None).unwrap_err();
    assert!(
        matches!(error, Error::AuthenticationFailed { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("none are set"), "{error}");
}

#[test]
fn failures_are_different_errors() {
    let missing = failure(&Server::status("404 Not Found"));
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
    let forbidden = failure(&Server::status("403 Forbidden"));
    assert!(
        matches!(forbidden, Error::AuthenticationFailed { .. }),
        "{forbidden}"
    );
    let down = failure(&Server::status("503 Service Unavailable"));
    assert!(
        matches!(down, Error::Unreachable { .. }) && down.is_retryable(),
        "{down}"
    );
    assert!(down.to_string().contains("503"), "{down}");
    let page = Server::answering(|_| response("200 OK", "Content-Type: text/html\r\n", b"<p>"));
    let page = failure(&page);
    assert!(page.to_string().contains("does not speak git"), "{page}");
}

#[test]
fn a_closed_port_is_unreachable() {
    let server = Server::silent();
    let url = server.url("model.git");
    drop(server);
    let error = fetch(&Remote::new(), &url, None).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn garbage_instead_of_git_is_an_error() {
    let kind = "Content-Type: application/x-git-upload-pack-advertisement\r\n";
    for body in [
        &b""[..],
        b"0000",
        b"zzzz",
        b"001e# service=git-upload-pack\n0000ffff",
        b"001e# service=git-upload-pack\n00000010ERR \x1b[31mno",
        b"HTTP/1.1",
    ] {
        let body = body.to_vec();
        let error = failure(&Server::answering(move |_| response("200 OK", kind, &body)));
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
}

#[test]
fn a_redirect_to_another_host_is_not_followed_and_learns_no_password() {
    let elsewhere = Server::status("401 Unauthorized");
    let target = format!("http://localhost:{}/model.git", elsewhere.port());
    let server = Server::answering(move |request| {
        let location = format!("Location: {target}/info/refs?{}\r\n", request.query);
        response("302 Found", &location, b"")
    });
    let given = credentials("canary");
    let error = fetch(&Remote::new(), &server.url("model.git"), Some(&given)).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains("redirects to other hosts"),
        "{error}"
    );
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_redirect_to_another_port_is_not_followed() {
    let elsewhere = Server::status("401 Unauthorized");
    let target = elsewhere.url("model.git");
    let server = Server::answering(move |request| {
        let location = format!("Location: {target}/info/refs?{}\r\n", request.query);
        response("302 Found", &location, b"")
    });
    let error = fetch(&Remote::new(), &server.url("model.git"), None).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("ports"), "{error}");
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_redirect_within_the_host_is_followed_and_the_objects_come_from_there() {
    let remote = Remote::new();
    let first = remote.push("main", &[("a", "1")]);
    let server = Server::moving(remote.folder(), "old.git", "model.git");
    let heads = fetch(&remote, &server.url("old.git"), None).unwrap();
    assert_eq!(heads.branches["main"], first);
}

#[test]
fn redirects_in_a_circle_end() {
    let server = Server::answering(|request| {
        let location = format!("Location: {}?{}\r\n", request.path, request.query);
        response("302 Found", &location, b"")
    });
    let error = failure(&server);
    assert!(error.to_string().contains("more than 5 times"), "{error}");
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn a_large_answer_over_http_is_stopped() {
    let remote = Remote::new();
    let noise: String = (0..60_000u64)
        .map(|n| {
            format!(
                "{:016x}",
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
            )
        })
        .collect();
    remote.push("main", &[("noise", &noise)]);
    let server = Server::of_repositories(remote.folder(), None);
    let mirrors = remote
        .mirrors()
        .with_limits(limits(|limits| limits.bytes = 32 << 10));
    let mirror = mirrors.mirror(RepoId(Uuid::nil()));
    let error = mirror
        .fetch(&server.url("model.git"), None, &CancelFlag::default())
        .unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
}

#[tokio::test]
async fn an_abandoned_fetch_of_a_silent_server_does_not_delay_other_repos() {
    let remote = Remote::new();
    remote.push("main", &[("a", "1")]);
    let silent = Server::silent();
    let git = Git::new(remote.mirrors(), worker());
    for n in 1..=4u128 {
        let fetch = git.fetch(RepoId(Uuid::from_u128(n)), silent.url("x"), None);
        let given_up = tokio::time::timeout(Duration::from_millis(50), fetch).await;
        assert!(given_up.is_err());
    }
    // Its threads hang in the network; sources are read all the same.
    remote.fetch().unwrap();
    let read = git.resolve(RepoId(Uuid::nil()), "main".to_owned());
    assert!(
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .unwrap()
            .is_ok()
    );
    drop(silent);
}
