//! Submodules in a source archive: fetched from the address in the commit, without any credentials.

use std::collections::BTreeMap;
use std::io::Read;

use git2::{FileMode, Oid};
use secrecy::SecretString;
use trainyard_forge::{CancelFlag, CommitSha, Contents, Credentials, Error, Login};

use crate::remote::Remote;
use crate::server::Server;

/// A repository that has another one at `vendor/lib`.
fn with_module(url: &str, at: &CommitSha) -> (Remote, CommitSha) {
    let remote = Remote::new();
    let commit = add_module(&remote, url, at);
    (remote, commit)
}

fn add_module(remote: &Remote, url: &str, at: &CommitSha) -> CommitSha {
    let list = format!("[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = {url}\n");
    let at = Oid::from_str(at.as_str()).unwrap();
    remote.push_entries(
        "main",
        &[
            (".gitmodules", FileMode::Blob, remote.blob(list.as_bytes())),
            ("README", FileMode::Blob, remote.blob(b"model")),
            ("vendor/lib", FileMode::Commit, at),
        ],
    )
}

/// The files of the archive, and its list of missing parts.
fn archive(
    remote: &Remote,
    commit: &CommitSha,
    url: &str,
) -> Result<(BTreeMap<String, String>, Vec<String>), Error> {
    let contents = Contents {
        url: url.to_owned(),
        credentials: Some(Credentials::Login(Login {
            username: "ada".to_owned(),
            password: SecretString::from("geheim"),
        })),
        lfs: false,
        submodules: true,
    };
    let path = remote.folder().join("sources/a.tar.zst");
    let stand_ins = remote.fetched().write_source_tar(
        commit,
        &path,
        Some(&contents),
        &CancelFlag::default(),
    )?;
    let packed = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        if !name.ends_with('/') {
            files.insert(name, text);
        }
    }
    Ok((files, stand_ins.notes()))
}

#[test]
fn class_12_a_submodule_and_one_within_it_are_there_and_no_password_was_shown() {
    let inner = Remote::new();
    let inner_at = inner.push("main", &[("deep.py", "deep")]);
    let inner_server = Server::of_repositories(inner.folder(), None);
    let (lib, lib_at) = with_module(&inner_server.url("model.git"), &inner_at);
    let lib_server = Server::of_repositories(lib.folder(), None);
    let (remote, commit) = with_module(&lib_server.url("model.git"), &lib_at);
    let (files, notes) = archive(&remote, &commit, "http://127.0.0.1:1/team/x.git").unwrap();
    assert_eq!(files["README"], "model");
    assert_eq!(files["vendor/lib/README"], "model");
    assert_eq!(files["vendor/lib/vendor/lib/deep.py"], "deep");
    assert_eq!(notes, [""; 0]);
    for asked in [lib_server.seen(), inner_server.seen()] {
        assert!(!asked.is_empty());
        assert!(
            asked
                .iter()
                .all(|asked| asked.header("authorization").is_none())
        );
    }
}

#[test]
fn a_relative_address_is_beside_the_repo_and_what_is_here_is_not_fetched_again() {
    let lib = Remote::new();
    let at = lib.push("main", &[("lib.py", "lib")]);
    let server = Server::of_repositories(lib.folder(), None);
    let (remote, commit) = with_module("../model.git", &at);
    let url = server.url("x.git");
    let (files, _) = archive(&remote, &commit, &url).unwrap();
    assert_eq!(files["vendor/lib/lib.py"], "lib");
    let asked = server.seen().len();
    archive(&remote, &commit, &url).unwrap();
    assert_eq!(server.seen().len(), asked);
}

#[test]
fn class_14_a_submodule_in_the_daemons_own_surroundings_is_not_fetched() {
    let secret = Remote::new();
    let at = secret.push("main", &[("secret", "x")]);
    for url in [
        secret.url().as_str(),
        "http://169.254.169.254/x",
        "../model.git",
    ] {
        let (remote, commit) = with_module(url, &at);
        let error = archive(&remote, &commit, &secret.url()).unwrap_err();
        assert!(matches!(error, Error::InvalidUrl { .. }), "{url}: {error}");
    }
}

#[test]
fn class_13_submodules_are_bounded_in_depth_and_number() {
    let remote = Remote::new();
    let server = Server::of_repositories(remote.folder(), None);
    let mut at = remote.push("main", &[("README", "first")]);
    for _ in 0..4 {
        at = add_module(&remote, &server.url("model.git"), &at);
    }
    let error = archive(&remote, &at, &server.url("x.git")).unwrap_err();
    assert!(error.to_string().contains("nested 3 deep"), "{error}");

    let remote = Remote::new();
    let server = Server::of_repositories(remote.folder(), None);
    let first = remote.push("main", &[("README", "first")]);
    let id = Oid::from_str(first.as_str()).unwrap();
    let names: Vec<String> = (0..21).map(|n| format!("lib-{n:02}")).collect();
    let mut list = String::new();
    for name in &names {
        let url = server.url("model.git");
        list.push_str(&format!(
            "[submodule \"{name}\"]\npath = {name}\nurl = {url}\n"
        ));
    }
    let list = remote.blob(list.as_bytes());
    let mut entries = vec![(".gitmodules", FileMode::Blob, list)];
    entries.extend(
        names
            .iter()
            .map(|name| (name.as_str(), FileMode::Commit, id)),
    );
    let commit = remote.push_entries("main", &entries);
    let error = archive(&remote, &commit, &server.url("x.git")).unwrap_err();
    assert!(error.to_string().contains("20 submodules"), "{error}");
}

#[test]
fn a_commit_that_its_repository_does_not_have_is_reported() {
    let lib = Remote::new();
    lib.push("main", &[("lib.py", "lib")]);
    let server = Server::of_repositories(lib.folder(), None);
    let gone = CommitSha::new(&"1".repeat(40)).unwrap();
    let (remote, commit) = with_module(&server.url("model.git"), &gone);
    let error = archive(&remote, &commit, &server.url("x.git")).unwrap_err();
    assert!(
        error.to_string().contains("vendor/lib is at 1111"),
        "{error}"
    );
}
