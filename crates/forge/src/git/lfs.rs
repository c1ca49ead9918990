//! The contents of files of Git LFS, for a source tree that is to have them and not their pointers.
//!
//! 1. The server follows from the repo's own address, and not from anything that a commit says (`.lfsconfig`): a user
//!    who may push would otherwise choose which server gets the repo's password.
//! 2. The address that the server names for a content is checked like every address, and gets the password only if it
//!    is the same server.
//! 3. A content must match its hash. It is kept next to the mirror, so that the next run does not fetch it again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use git2::Repository;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use url::Url;

use super::limits::Watch;
use super::session::Session;
use super::ssh::SshSession;
use super::{Credentials, Error, RemoteUrl, UrlRules};
use crate::one_line::one_line;

/// How the text of a pointer begins.
const VERSIONS: [&str; 2] = [
    "version https://git-lfs.github.com/spec/v1\n",
    "version https://hawser.github.com/spec/v1\n",
];

/// The longest pointer, in bytes, by the specification of Git LFS.
pub(super) const LONGEST: usize = 1024;

/// How much is kept for one repo, in bytes.
const KEPT: u64 = 16 << 30;

/// How many bytes are read at a time from a disk.
const PIECE: usize = 128 << 10;

/// Request headers that only this program sets.
const OURS: [&str; 5] = [
    "connection",
    "content-length",
    "host",
    "te",
    "transfer-encoding",
];

/// Whether a file is a pointer.
pub(super) fn is_pointer(content: &[u8]) -> bool {
    content.len() <= LONGEST
        && VERSIONS
            .iter()
            .any(|version| content.starts_with(version.as_bytes()))
}

/// The fields of a pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pointer {
    /// The content's SHA-256, in lower-case hex.
    pub(super) oid: String,
    pub(super) size: u64,
}

impl Pointer {
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content)
            .ok()
            .filter(|_| is_pointer(content))?;
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let oid = value("oid sha256:")?;
        let is_hash = oid.len() == 64
            && oid
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        Some(Self {
            oid: is_hash.then(|| oid.to_owned())?,
            size: value("size ")?.parse().ok()?,
        })
    }
}

/// The contents of one repo.
pub(super) struct Lfs<'a> {
    folder: PathBuf,
    url: &'a RemoteUrl,
    credentials: Option<&'a Credentials>,
    rules: &'a UrlRules,
    watch: &'a Arc<Watch>,
    server: Option<Server>,
    /// Other servers that have contents, by their origins.
    elsewhere: BTreeMap<String, Session>,
}

/// Where the addresses of contents come from.
enum Server {
    /// A folder of contents on this machine's disk.
    Disk(PathBuf),
    Http {
        session: Box<Session>,
        batch: Url,
        headers: HeaderMap,
    },
}

#[derive(Serialize)]
struct Question<'a> {
    operation: &'a str,
    transfers: [&'a str; 1],
    objects: [&'a Pointer; 1],
}

#[derive(Deserialize)]
struct Answer {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    actions: Option<Actions>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Actions {
    download: Option<Place>,
}

/// The address to ask, with its headers. `git-lfs-authenticate` answers in the same form.
#[derive(Deserialize)]
struct Place {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

impl<'a> Lfs<'a> {
    /// Contents are kept below `mirror`.
    pub(super) fn new(
        mirror: &Path,
        url: &'a RemoteUrl,
        credentials: Option<&'a Credentials>,
        rules: &'a UrlRules,
        watch: &'a Arc<Watch>,
    ) -> Self {
        Self {
            folder: mirror.join("lfs/objects"),
            url,
            credentials,
            rules,
            watch,
            server: None,
            elsewhere: BTreeMap::new(),
        }
    }

    /// The content of a pointer, fetched if it is not here.
    pub(super) fn content(&mut self, pointer: &Pointer) -> Result<File, Error> {
        let path = self.folder.join(place(pointer));
        let kept = File::open(&path).ok();
        let kept = kept.filter(|file| file.metadata().is_ok_and(|it| it.len() == pointer.size));
        match kept {
            Some(kept) => Ok(kept),
            None => self.fetch(pointer, &path),
        }
    }

    fn fetch(&mut self, pointer: &Pointer, path: &Path) -> Result<File, Error> {
        let disk = |error: &io::Error| Error::disk("a content of Git LFS cannot be kept", error);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(|error| disk(&error))?;
        let mut file = NamedTempFile::new_in(&self.folder).map_err(|error| disk(&error))?;
        let url = self.url.to_string();
        let wrong = |why: &str| Error::Corrupt {
            what: url.clone(),
            why: format!("the content of Git LFS {} {why}", pointer.oid),
        };
        let (mut hash, mut left) = (Sha256::new(), pointer.size);
        self.bring(pointer, &mut |bytes: &[u8]| {
            let count = bytes.len() as u64;
            left = left
                .checked_sub(count)
                .ok_or_else(|| wrong("is longer than its pointer says"))?;
            hash.update(bytes);
            file.write_all(bytes).map_err(|error| disk(&error))
        })?;
        if left > 0 {
            return Err(wrong("is shorter than its pointer says"));
        }
        if hex::encode(hash.finalize()) != pointer.oid {
            return Err(wrong("has another hash"));
        }
        file.as_file().sync_all().map_err(|error| disk(&error))?;
        let _ = file.persist(path).map_err(|error| disk(&error.error))?;
        File::open(path).map_err(|error| disk(&error))
    }

    /// Passes the content on in pieces.
    fn bring(
        &mut self,
        pointer: &Pointer,
        to: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let server = match self.server.take() {
            Some(server) => server,
            None => self.open()?,
        };
        let server = self.server.insert(server);
        let (session, batch, headers) = match server {
            Server::Disk(folder) => {
                return from_disk(self.url, &folder.join(place(pointer)), pointer, to);
            }
            Server::Http {
                session,
                batch,
                headers,
            } => (session, batch, headers),
        };
        let question = Question {
            operation: "download",
            transfers: ["basic"],
            objects: [pointer],
        };
        let question = serde_json::to_vec(&question).unwrap_or_default();
        let answer = session.ask_lfs(batch, headers, &question)?;
        let missing = |why: &str| Error::NotFound {
            url: self.url.to_string(),
            why: format!(
                "its Git LFS server does not return {}: {}",
                pointer.oid,
                one_line(why, 200)
            ),
        };
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| missing("its answer is not one of Git LFS"))?;
        let object = answer.objects.into_iter().next();
        let object = object.ok_or_else(|| missing("its answer is empty"))?;
        if let Some(problem) = object.error {
            return Err(missing(&problem.message));
        }
        let place = object.actions.and_then(|actions| actions.download);
        let place = place.ok_or_else(|| missing("its answer has no address"))?;
        let target = Url::parse(&place.href).map_err(|error| missing(&error.to_string()))?;
        let headers = headers_of(&place.header);
        let session = if target.origin() == batch.origin() {
            &*session
        } else {
            let origin = target.origin().ascii_serialization();
            match self.elsewhere.entry(origin) {
                std::collections::btree_map::Entry::Occupied(known) => &*known.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let url = RemoteUrl::of_content(&target, batch.scheme(), self.rules)?;
                    let watch = Arc::clone(self.watch);
                    &*place.insert(Session::open(&url, None, self.rules, watch)?)
                }
            }
        };
        let mut response = session.get(&target, &headers)?;
        while let Some(bytes) = session.next(&mut response)? {
            to(&bytes)?;
        }
        Ok(())
    }

    fn open(&self) -> Result<Server, Error> {
        if let Some(path) = self.url.path() {
            let repository = Repository::open(path)
                .map_err(|error| Error::of_remote(self.url, self.watch, &error))?;
            return Ok(Server::Disk(repository.path().join("lfs/objects")));
        }
        let watch = Arc::clone(self.watch);
        if !self.url.is_ssh() {
            let login = match self.credentials {
                Some(Credentials::Login(login)) => Some(login),
                Some(Credentials::SshKey(_)) => None,
                None => self.url.login(),
            };
            self.url
                .refuse_credentials(login.is_some(), false, self.rules)?;
            let session = Session::open(self.url, login, self.rules, watch)?;
            return Ok(Server::Http {
                session: Box::new(session),
                batch: self.url.lfs_batch(),
                headers: HeaderMap::new(),
            });
        }
        let key = match self.credentials {
            Some(Credentials::SshKey(key)) => Some(key),
            _ => None,
        };
        let said = SshSession::lfs_place(self.url, key, self.rules, &watch)?;
        let odd = |why: String| Error::NotFound {
            url: self.url.to_string(),
            why: format!(
                "the answer of `git-lfs-authenticate` there is not valid: {}",
                one_line(&why, 200)
            ),
        };
        let place: Place = serde_json::from_slice(&said).map_err(|error| odd(error.to_string()))?;
        let mut batch = Url::parse(&place.href).map_err(|error| odd(error.to_string()))?;
        // The headers hold a token.
        let url = RemoteUrl::of_content(&batch, "https", self.rules)?;
        batch.set_path(&format!(
            "{}/objects/batch",
            batch.path().trim_end_matches('/')
        ));
        Ok(Server::Http {
            session: Box::new(Session::open(&url, None, self.rules, watch)?),
            batch,
            headers: headers_of(&place.header),
        })
    }

    /// Removes the oldest contents if more is kept than permitted.
    pub(super) fn trim(&self) {
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        let list = |folder: &Path| -> Vec<fs::DirEntry> {
            fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .collect()
        };
        for first in list(&self.folder) {
            for second in list(&first.path()) {
                for file in list(&second.path()) {
                    if let Ok(it) = file.metadata() {
                        kept.push((
                            it.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                            it.len(),
                            file.path(),
                        ));
                    }
                }
            }
        }
        let mut total: u64 = kept.iter().map(|(_, size, _)| size).sum();
        kept.sort();
        for (_, size, path) in kept {
            if total <= KEPT {
                return;
            }
            if fs::remove_file(path).is_ok() {
                total -= size;
            }
        }
    }
}

/// The path of a content below a folder of contents.
fn place(pointer: &Pointer) -> PathBuf {
    let oid = &pointer.oid;
    Path::new(&oid[..2]).join(&oid[2..4]).join(oid)
}

fn from_disk(
    url: &RemoteUrl,
    path: &Path,
    pointer: &Pointer,
    to: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let missing = |error: &io::Error| Error::NotFound {
        url: url.to_string(),
        why: format!(
            "it does not have the content of Git LFS {} ({error}); `git lfs fetch --all` there brings it",
            pointer.oid
        ),
    };
    let mut file = File::open(path).map_err(|error| missing(&error))?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(|error| missing(&error))? {
            0 => return Ok(()),
            count => to(&piece[..count])?,
        }
    }
}

fn headers_of(given: &BTreeMap<String, String>) -> HeaderMap {
    given
        .iter()
        .filter(|(name, _)| !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)))
        .filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_and_what_only_looks_like_one_is_not() {
        let oid = "0a".repeat(32);
        let pointer = format!("{}oid sha256:{oid}\nsize 12\n", VERSIONS[0]);
        let read = Pointer::read(pointer.as_bytes());
        assert_eq!(
            read,
            Some(Pointer {
                oid: oid.clone(),
                size: 12
            })
        );
        for wrong in [
            format!("{}oid sha256:{oid}\nsize -1\n", VERSIONS[0]),
            format!("{}oid sha256:../../../../etc/passwd\nsize 1\n", VERSIONS[0]),
            format!("{}oid sha256:{}\nsize 1\n", VERSIONS[0], "A".repeat(64)),
            format!("{pointer}{}", "x".repeat(LONGEST)),
            format!("version https://example.org\noid sha256:{oid}\nsize 12\n"),
        ] {
            assert_eq!(Pointer::read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
