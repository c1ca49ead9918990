//! Contents of Git LFS in a source archive: fetched from the repo's own server, counted by their hashes.

use std::io::Read;

use git2::FileMode;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use trainyard_forge::{CancelFlag, Contents, Credentials, Error, Login, StandIns};

use crate::remote::Remote;
use crate::server::{Server, response};
use crate::sshd::Sshd;

const LOGIN: &str = "Basic YWRhOmdlaGVpbQ==";

fn oid(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn pointer(content: &[u8]) -> String {
    let (oid, size) = (oid(content), content.len());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// A remote whose `data/rows.bin` is a pointer to this content.
fn remote_with(content: &[u8]) -> (Remote, trainyard_forge::CommitSha) {
    let remote = Remote::new();
    let blob = remote.blob(pointer(content).as_bytes());
    let commit = remote.push_entries("main", &[("data/rows.bin", FileMode::Blob, blob)]);
    (remote, commit)
}

/// Writes the archive with contents from `url`, and returns its content of the file.
fn archive(
    remote: &Remote,
    commit: &trainyard_forge::CommitSha,
    url: &str,
) -> Result<(StandIns, Vec<u8>), Error> {
    let login = (!url.starts_with("file:")).then(|| {
        Credentials::Login(Login {
            username: "ada".to_owned(),
            password: SecretString::from("geheim"),
        })
    });
    archive_with(remote, commit, url, login)
}

fn archive_with(
    remote: &Remote,
    commit: &trainyard_forge::CommitSha,
    url: &str,
    credentials: Option<Credentials>,
) -> Result<(StandIns, Vec<u8>), Error> {
    let contents = Contents {
        url: url.to_owned(),
        credentials,
        lfs: true,
        submodules: false,
    };
    let path = remote.folder().join("sources/a.tar.zst");
    let mirror = remote.fetched();
    let stand_ins =
        mirror.write_source_tar(commit, &path, Some(&contents), &CancelFlag::default())?;
    let packed = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    let mut text = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path_bytes().ends_with(b"rows.bin") {
            entry.read_to_end(&mut text).unwrap();
        }
    }
    Ok((stand_ins, text))
}

fn batch(content: &[u8], href: &str) -> Vec<u8> {
    let answer = serde_json::json!({"transfer": "basic", "objects": [{
        "oid": oid(content), "size": content.len(),
        "actions": {"download": {"href": href, "header": {"X-Ticket": "17"}}},
    }]});
    let head = "Content-Type: application/vnd.git-lfs+json\r\n";
    response("200 OK", head, answer.to_string().as_bytes())
}

/// A server of Git LFS that requires a login, and says that contents are at `href`.
fn asking(content: &'static [u8], href: String) -> Server {
    Server::answering(move |request| {
        if request.header("authorization") != Some(LOGIN) {
            return response(
                "401 Unauthorized",
                "LFS-Authenticate: Basic realm=\"x\"\r\n",
                b"",
            );
        }
        batch(content, &href)
    })
}

const CONTENT: &[u8] = b"rows of data, many of them";

#[test]
fn class_12_a_content_comes_from_where_the_server_says_without_the_repos_password() {
    let (remote, commit) = remote_with(CONTENT);
    let store = Server::answering(|_| response("200 OK", "", CONTENT));
    let server = asking(CONTENT, store.url("objects/1?signature=2"));
    let (stand_ins, text) = archive(&remote, &commit, &server.url("model.git")).unwrap();
    assert_eq!((stand_ins.notes(), text.as_slice()), (Vec::new(), CONTENT));
    let asked = server.seen();
    let asked = asked.last().unwrap();
    assert_eq!(asked.path, "/model.git/info/lfs/objects/batch");
    let question: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(question["operation"], "download");
    assert_eq!(question["objects"][0]["oid"], oid(CONTENT));
    let asked = store.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("x-ticket"), Some("17"));
    assert_eq!(asked[0].header("authorization"), None);

    // Contents that are here already are not fetched again.
    let (_, text) = archive(&remote, &commit, &server.url("model.git")).unwrap();
    assert_eq!((text.as_slice(), store.seen().len()), (CONTENT, 1));
}

#[test]
fn a_content_that_is_another_one_is_refused() {
    let (remote, commit) = remote_with(CONTENT);
    for (wrong, why) in [
        (
            &b"rows of other data, as long"[..CONTENT.len()],
            "another hash",
        ),
        (b"short", "shorter"),
        (b"rows of data, many of them, and more", "longer"),
    ] {
        let store = Server::answering(move |_| response("200 OK", "", wrong));
        let server = asking(CONTENT, store.url("objects/1"));
        let error = archive(&remote, &commit, &server.url("model.git")).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn class_14_a_content_in_the_daemons_own_surroundings_is_not_fetched() {
    let (remote, commit) = remote_with(CONTENT);
    for place in [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
    ] {
        let server = asking(CONTENT, place.to_owned());
        let error = archive(&remote, &commit, &server.url("model.git")).unwrap_err();
        assert!(
            matches!(error, Error::InvalidUrl { .. }),
            "{place}: {error}"
        );
    }
}

#[test]
fn a_server_without_the_content_is_reported_with_its_message() {
    let (remote, commit) = remote_with(CONTENT);
    let server = Server::answering(|_| {
        let answer =
            serde_json::json!({"objects": [{"error": {"code": 404, "message": "no such object"}}]});
        response("200 OK", "", answer.to_string().as_bytes())
    });
    let error = archive(&remote, &commit, &server.url("model")).unwrap_err();
    assert!(error.to_string().contains("no such object"), "{error}");
}

#[test]
fn a_repository_on_this_disk_gives_what_git_lfs_has_fetched_there() {
    let (remote, commit) = remote_with(CONTENT);
    let error = archive(&remote, &commit, &remote.url()).unwrap_err();
    assert!(error.to_string().contains("git lfs fetch --all"), "{error}");
    let oid = oid(CONTENT);
    let folder = remote
        .path()
        .join("lfs/objects")
        .join(&oid[..2])
        .join(&oid[2..4]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&oid), CONTENT).unwrap();
    let (_, text) = archive(&remote, &commit, &remote.url()).unwrap();
    assert_eq!(text, CONTENT);
}

#[test]
fn a_repo_over_ssh_asks_its_host_where_contents_are() {
    let (remote, commit) = remote_with(CONTENT);
    let sshd = Sshd::start(remote.folder());
    let store = Server::answering(|_| response("200 OK", "", CONTENT));
    let place = store.url("objects/1");
    let server = Server::answering(move |request| match request.header("x-pass") {
        Some("42") => batch(CONTENT, &place),
        _ => response("403 Forbidden", "", b""),
    });
    let answer = serde_json::json!({"href": server.url("info/lfs"), "header": {"X-Pass": "42"}});
    let asked = remote.folder().join("asked");
    let script = format!("echo \"$*\" > '{}'\necho '{answer}'", asked.display());
    sshd.program("git-lfs-authenticate", &script);
    let (url, key) = (sshd.url(&remote.path()), sshd.key("client", "host"));
    let (_, text) = archive_with(&remote, &commit, &url, Some(key)).unwrap();
    assert_eq!(text, CONTENT);
    assert_eq!(server.seen()[0].path, "/info/lfs/objects/batch");
    let asked = std::fs::read_to_string(asked).unwrap();
    assert_eq!(
        asked.trim(),
        format!("{} download", remote.path().display())
    );
}
