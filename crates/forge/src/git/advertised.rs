//! The refs that a remote advertises, read from its answer before libgit2 sees them.
//!
//! Names are bytes, and a remote may send any number of them: they are counted, and those that cannot be kept are
//! left out, before libgit2 fetches anything.

use std::collections::BTreeMap;

use git2::Oid;

use super::{Error, RemoteUrl};
use crate::one_line::one_line;

pub(super) const BRANCHES: &str = "refs/heads/";
pub(super) const TAGS: &str = "refs/tags/";

/// The longest name of a ref, and the longest part of one between slashes, in bytes.
const LONGEST_NAME: usize = 1000;
const LONGEST_PART: usize = 240;

/// How many bytes the names may have together: all of them are in memory, here and in the daemon.
const NAMES_BYTES: usize = 16 << 20;

/// Branches and tags of a repository, by their full names, and what they point to.
pub(super) type Refs = BTreeMap<String, Oid>;

/// The refs that a remote advertises.
#[derive(Debug, Default)]
pub(super) struct Advertised {
    pub(super) refs: Refs,
    /// The name of its default branch.
    pub(super) default_branch: Option<String>,
    /// How many branches and tags have names that cannot be kept.
    pub(super) left_out: usize,
    head: Option<Oid>,
    counted: usize,
    bytes: usize,
}

impl Advertised {
    /// Takes one ref of the remote.
    pub(super) fn take(
        &mut self,
        url: &RemoteUrl,
        name: &[u8],
        id: Oid,
        at_most: usize,
    ) -> Result<(), Error> {
        if name == b"HEAD" {
            self.head = Some(id);
        }
        let is_ours = name.starts_with(BRANCHES.as_bytes()) || name.starts_with(TAGS.as_bytes());
        // `refs/tags/v1^{}` only names the tag's target.
        if !is_ours || name.ends_with(b"^{}") {
            return Ok(());
        }
        self.counted += 1;
        if self.counted > at_most {
            return Err(Error::TooLarge {
                what: url.to_string(),
                why: format!("a repo may have {at_most} branches and tags"),
            });
        }
        let Some(name) = std::str::from_utf8(name)
            .ok()
            .filter(|name| can_be_kept(name))
        else {
            self.left_out += 1;
            return Ok(());
        };
        self.bytes += name.len();
        if self.bytes > NAMES_BYTES {
            return Err(Error::TooLarge {
                what: url.to_string(),
                why: format!(
                    "the names of its branches and tags may have {} MiB",
                    NAMES_BYTES >> 20
                ),
            });
        }
        self.refs.insert(name.to_owned(), id);
        Ok(())
    }

    /// Reads the answer to `GET info/refs?service=git-upload-pack`, or the first output of
    /// `git-upload-pack` over ssh.
    pub(super) fn read(url: &RemoteUrl, answer: &[u8], at_most: usize) -> Result<Self, Error> {
        let mut advertised = Self::default();
        let mut lines = Lines { rest: answer };
        let mut is_first = true;
        // A service line and a flush, the refs and a flush; over ssh the refs and a flush alone.
        let mut flushes = usize::from(url.is_ssh());
        while flushes < 2 {
            let Some(line) = lines.next().map_err(|()| no_git(url))? else {
                flushes += 1;
                continue;
            };
            if let Some(said) = line.strip_prefix(b"ERR ") {
                let why = one_line(&String::from_utf8_lossy(said), 300);
                return Err(Error::Unreachable {
                    url: url.to_string(),
                    why: format!("it reports: {why}"),
                });
            }
            if flushes == 0 {
                if !line.starts_with(b"# service=git-upload-pack") {
                    return Err(no_git(url));
                }
                continue;
            }
            let (reference, capabilities) = match line.iter().position(|byte| *byte == 0) {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (line, &[][..]),
            };
            if std::mem::take(&mut is_first) {
                advertised.default_branch = default_of(url, capabilities)?;
            }
            // Shallow repositories add lines of their own.
            if line.starts_with(b"shallow ") {
                continue;
            }
            let (id, name) = reference
                .split_at_checked(41)
                .filter(|(id, _)| id.ends_with(b" "))
                .ok_or_else(|| no_git(url))?;
            let id = std::str::from_utf8(&id[..40])
                .ok()
                .and_then(|id| Oid::from_str(id).ok())
                .ok_or_else(|| no_git(url))?;
            let name = name.strip_suffix(b"\n").unwrap_or(name);
            advertised.take(url, name, id, at_most)?;
        }
        advertised.guess_default();
        Ok(advertised)
    }

    /// Servers that do not name the default branch at least send the commit that it points to.
    fn guess_default(&mut self) {
        if self.default_branch.is_some() {
            return;
        }
        let Some(head) = self.head else { return };
        let points_there = |name: &&str| self.refs.get(*name) == Some(&head);
        let usual = ["refs/heads/main", "refs/heads/master"];
        let found = usual.iter().copied().find(points_there).or_else(|| {
            let mut names = self.refs.keys().map(String::as_str);
            names.find(|name| name.starts_with(BRANCHES) && points_there(name))
        });
        self.default_branch = found
            .and_then(|name| name.strip_prefix(BRANCHES))
            .map(ToOwned::to_owned);
    }
}

/// The default branch among the capabilities; refuses hashes that are not understood.
fn default_of(url: &RemoteUrl, capabilities: &[u8]) -> Result<Option<String>, Error> {
    let mut default = None;
    for word in capabilities.split(|byte| byte.is_ascii_whitespace()) {
        if let Some(format) = word.strip_prefix(b"object-format=")
            && format != b"sha1"
        {
            return Err(Error::InvalidUrl {
                url: url.to_string(),
                why: "its hashes are SHA-256, which is not supported yet".to_owned(),
            });
        }
        if let Some(name) = word.strip_prefix(b"symref=HEAD:refs/heads/") {
            default = std::str::from_utf8(name).ok().map(ToOwned::to_owned);
        }
    }
    Ok(default)
}

fn no_git(url: &RemoteUrl) -> Error {
    Error::NotFound {
        url: url.to_string(),
        why: "the server there does not speak git".to_owned(),
    }
}

/// Git's lines: four hexadecimal digits of length, then the bytes.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The next line; `None` is a flush.
    fn next(&mut self) -> Result<Option<&'a [u8]>, ()> {
        let (digits, rest) = self.rest.split_at_checked(4).ok_or(())?;
        let digits = std::str::from_utf8(digits).map_err(|_| ())?;
        let length = usize::from_str_radix(digits, 16).map_err(|_| ())?;
        self.rest = rest;
        if length == 0 {
            return Ok(None);
        }
        let (line, rest) = length
            .checked_sub(4)
            .and_then(|length| rest.split_at_checked(length))
            .ok_or(())?;
        self.rest = rest;
        Ok(Some(line))
    }
}

/// Whether a ref of this name can be looked up: libgit2 looks for a file of that name first.
fn can_be_kept(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.split('/').all(|part| part.len() <= LONGEST_PART)
        && git2::Reference::is_valid_name(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::UrlRules;
    use super::*;

    fn url() -> RemoteUrl {
        RemoteUrl::parse("https://example.org/x", &UrlRules::default()).unwrap()
    }

    fn line(text: &[u8]) -> Vec<u8> {
        [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
    }

    fn answer(lines: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [line(b"# service=git-upload-pack\n"), b"0000".to_vec()].concat();
        for text in lines {
            bytes.extend(line(text));
        }
        bytes.extend(b"0000");
        bytes
    }

    const ID: &str = "d6cf7e0b868509586aa57ff03d0a362a6f95aa00";

    #[test]
    fn names_that_are_not_utf_8_are_counted_and_left_out() {
        let bad = [format!("{ID} refs/heads/").as_bytes(), b"\xff\xfe\n"].concat();
        let good = format!("{ID} refs/heads/main\n");
        let read =
            |at_most| Advertised::read(&url(), &answer(&[&bad, good.as_bytes(), &bad]), at_most);
        let found = read(3).unwrap();
        assert_eq!((found.refs.len(), found.left_out), (1, 2));
        assert!(
            matches!(read(2), Err(Error::TooLarge { .. })),
            "skipped names count as well"
        );
    }

    #[test]
    fn the_default_branch_is_what_the_server_says_or_where_its_head_points() {
        let head = format!("{ID} HEAD\0side-band symref=HEAD:refs/heads/trunk\n");
        let found = Advertised::read(&url(), &answer(&[head.as_bytes()]), 9).unwrap();
        assert_eq!(found.default_branch.as_deref(), Some("trunk"));
        let head = format!("{ID} HEAD\0side-band\n");
        let main = format!("{ID} refs/heads/deep\n");
        let found =
            Advertised::read(&url(), &answer(&[head.as_bytes(), main.as_bytes()]), 9).unwrap();
        assert_eq!(found.default_branch.as_deref(), Some("deep"));
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..400) {
            let _ = Advertised::read(&url(), &bytes, 3);
            let mut whole = answer(&[format!("{ID} refs/heads/a\0x\n").as_bytes(), &bytes]);
            whole.truncate(cut);
            let _ = Advertised::read(&url(), &whole, 3);
        }
    }
}
