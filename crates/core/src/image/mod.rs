//! References to images, by the grammar of the distribution project, and which registries may be asked.
//!
//! Docker reads more than references where an image is meant: ids, prefixes of ids, and whatever follows
//! in the path of a request to its API. An [`ImageReference`] is a checked and complete name: registry,
//! repository, and a tag or digest. Nothing else is ever sent to Docker on behalf of a DAG file or a
//! Dockerfile.

mod registries;

use std::fmt;

use thiserror::Error;

pub use self::registries::{Registries, RegistryFault};

/// The registry of references that name none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The folder of that registry for references without one: `alpine` is `library/alpine`.
const OFFICIAL: &str = "library";

/// Where Trainyard keeps the images that it builds; no reference may name them, as they belong to a repo.
pub const BUILT: &str = "trainyard/build";

/// The longest name, of registry and repository together, in bytes.
const LONGEST_NAME: usize = 255;

/// The longest tag, in bytes.
const LONGEST_TAG: usize = 128;

/// The algorithms of digests, with the number of hex digits that each has.
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// A complete reference to an image. `Display` writes it as people do, `alpine:3`, and
/// [`exact`](ImageReference::exact) in full.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is not a reference, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid image reference {}: {message}", Shown(.text))]
pub struct ReferenceFault {
    /// The text as given.
    pub text: String,
    /// What is wrong, and what was expected.
    pub message: String,
    /// Where, in bytes of the text.
    pub at: usize,
}

/// At most this much of an invalid text is shown.
const SHOWN: usize = 120;

/// A text in quotes, without control characters, and not in full where it is long.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.0.chars().take(SHOWN).collect();
        let more = if short.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "`{}{more}`", short.escape_debug())
    }
}

impl ImageReference {
    /// Reads `[REGISTRY[:PORT]/]NAME[:TAG][@DIGEST]`; without tag and digest the tag is `latest`.
    ///
    /// # Errors
    /// The first place that does not fit the grammar; ids, and names that Docker could take for the
    /// beginning of an id.
    pub fn parse(text: &str) -> Result<Self, ReferenceFault> {
        Reader { text }.reference()
    }

    /// Reads a reference that a DAG file or a Dockerfile names.
    ///
    /// # Errors
    /// As [`ImageReference::parse`]; and the names of images that Trainyard built, see [`BUILT`].
    pub fn requested(text: &str) -> Result<Self, ReferenceFault> {
        let reference = Self::parse(text)?;
        if reference.is_built_here() {
            return Err(ReferenceFault {
                text: text.to_owned(),
                message: format!(
                    "`{BUILT}` is for images that Trainyard built, which belong to their repo; \
                     build the image in this stage, or use `${{{{ stages.NAME.image }}}}`"
                ),
                at: 0,
            });
        }
        Ok(reference)
    }

    /// The registry's host, with its port where one is named; in lower case.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The digest, if one is named: `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What Docker is asked for: by digest where there is one, which says all that a tag could.
    #[must_use]
    pub fn exact(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}@{digest}", self.name()),
            (None, tag) => format!("{}:{}", self.name(), tag.as_deref().unwrap_or("latest")),
        }
    }

    /// Whether this is a name that only Trainyard gives to images, see [`BUILT`].
    #[must_use]
    pub fn is_built_here(&self) -> bool {
        let below = self.repository.strip_prefix(BUILT);
        self.registry == DEFAULT_REGISTRY
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '-']))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let official = self.repository.strip_prefix("library/");
        let short = official
            .filter(|name| !name.contains('/'))
            .unwrap_or(&self.repository);
        match short.split_once('/') {
            _ if self.registry != DEFAULT_REGISTRY => {
                write!(f, "{}/{}", self.registry, self.repository)?;
            }
            // Without its registry this would be read as another one.
            Some((first, _)) if is_host(first) => {
                write!(f, "{}/{}", self.registry, self.repository)?;
            }
            _ => f.write_str(short)?,
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for ImageReference {
    type Err = ReferenceFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Whether a text is a whole id as Docker writes it: `sha256:` and 64 hex digits in lower case.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && is_hex(hex))
}

/// Whether the first part of a name is a registry's host.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':', '[']) || first == "localhost"
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn fault<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ReferenceFault> {
        Err(ReferenceFault {
            text: self.text.to_owned(),
            message: message.into(),
            at,
        })
    }

    /// Where a part of the text begins.
    fn at(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.text.as_ptr() as usize
    }

    fn reference(&self) -> Result<ImageReference, ReferenceFault> {
        let text = self.text;
        if text.is_empty() {
            return self.fault(0, "it is empty; write it as NAME:TAG or NAME@DIGEST");
        }
        // Nothing valid is longer, and nothing below costs more than the text is long.
        if text.len() > LONGEST_NAME + LONGEST_TAG + 160 {
            return self.fault(0, format!("it is longer than {LONGEST_NAME} bytes"));
        }
        self.refuse_ids()?;
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(self.digest(digest)?)),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(self.tag(tag)?)),
            _ => (rest, None),
        };
        let (registry, path) = self.registry(name)?;
        self.path(path)?;
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL}/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return self.fault(0, format!("its name is longer than {LONGEST_NAME} bytes"));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(ToOwned::to_owned),
        };
        Ok(ImageReference {
            registry,
            repository,
            tag,
            digest: digest.map(ToOwned::to_owned),
        })
    }

    /// Docker looks for an image by the beginning of its id where a text may be one.
    fn refuse_ids(&self) -> Result<(), ReferenceFault> {
        let text = self.text;
        let algorithm = text.split(':').next().unwrap_or_default();
        if text.contains(':') && ALGORITHMS.iter().any(|(name, _)| *name == algorithm) {
            return self.fault(
                0,
                "this is the id of an image, and ids are not accepted; write it as NAME:TAG or NAME@DIGEST",
            );
        }
        if is_hex(text) {
            return self.fault(
                0,
                format!(
                    "this could be the beginning of an image's id; if it is a name, add the tag: `{}`",
                    if text.len() < 64 {
                        format!("{text}:latest")
                    } else {
                        "NAME:TAG".to_owned()
                    }
                ),
            );
        }
        Ok(())
    }

    fn registry<'n>(&self, name: &'n str) -> Result<(String, &'n str), ReferenceFault> {
        let Some((first, rest)) = name.split_once('/') else {
            return Ok((DEFAULT_REGISTRY.to_owned(), name));
        };
        if !is_host(first) {
            return Ok((DEFAULT_REGISTRY.to_owned(), name));
        }
        self.host(first)?;
        let registry = first.to_ascii_lowercase();
        Ok(match registry.as_str() {
            "index.docker.io" => (DEFAULT_REGISTRY.to_owned(), rest),
            _ => (registry, rest),
        })
    }

    fn host(&self, host: &str) -> Result<(), ReferenceFault> {
        let (name, port) = match host.split_once(':') {
            None => (host, None),
            Some((name, port)) => (name, Some(port)),
        };
        if name.starts_with('[') {
            return self.fault(
                self.at(host),
                "an IPv6 address cannot be the host of a registry here; expected a name such as registry.example.com",
            );
        }
        for label in name.split('.') {
            let right = !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if !right {
                return self.fault(
                    self.at(label),
                    "expected the host of a registry, such as registry.example.com:5000",
                );
            }
        }
        match port {
            Some(port)
                if port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit()) =>
            {
                self.fault(
                    self.at(port),
                    "expected a port number after the registry's host",
                )
            }
            _ => Ok(()),
        }
    }

    fn path(&self, path: &str) -> Result<(), ReferenceFault> {
        for component in path.split('/') {
            if let Err(offset) = component_of(component) {
                return self.fault(
                    self.at(component) + offset,
                    "expected a name of a-z and 0-9, with `.`, `_`, `__` or `-` only between these",
                );
            }
        }
        Ok(())
    }

    fn tag(&self, tag: &'a str) -> Result<&'a str, ReferenceFault> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let wrong = tag
            .char_indices()
            .find(|(at, c)| !(is_word(*c) || (*at > 0 && matches!(c, '.' | '-'))));
        match wrong {
            _ if tag.is_empty() => self.fault(self.at(tag), "expected a tag after `:`"),
            Some((at, _)) => self.fault(
                self.at(tag) + at,
                "expected a tag of letters, digits, `_`, `.` and `-`",
            ),
            None if tag.len() > LONGEST_TAG => self.fault(
                self.at(tag),
                format!("a tag has at most {LONGEST_TAG} characters"),
            ),
            None => Ok(tag),
        }
    }

    fn digest(&self, digest: &'a str) -> Result<&'a str, ReferenceFault> {
        let known = digest.split_once(':').is_some_and(|(algorithm, hex)| {
            ALGORITHMS.contains(&(algorithm, hex.len())) && is_hex(hex)
        });
        if known {
            Ok(digest)
        } else {
            self.fault(
                self.at(digest),
                "expected a digest after `@`: sha256: and 64 hex digits in lower case",
            )
        }
    }
}

/// One part of a repository's path; otherwise where it goes wrong.
fn component_of(text: &str) -> Result<(), usize> {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let plain = bytes[at..].iter().take_while(|byte| is_plain(byte)).count();
        if plain == 0 {
            return Err(at);
        }
        at += plain;
        if at == bytes.len() {
            return Ok(());
        }
        let rest = &bytes[at..];
        at += match rest {
            [b'_', b'_', ..] => 2,
            [b'_' | b'.', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|byte| **byte == b'-').count(),
            _ => return Err(at),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn full(text: &str) -> String {
        ImageReference::parse(text).unwrap().exact()
    }

    #[test]
    fn class_17_references_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("alpine", "docker.io/library/alpine:latest".to_owned()),
            ("alpine:3", "docker.io/library/alpine:3".to_owned()),
            ("team/app", "docker.io/team/app:latest".to_owned()),
            (
                "docker.io/alpine:3",
                "docker.io/library/alpine:3".to_owned(),
            ),
            (
                "index.docker.io/alpine",
                "docker.io/library/alpine:latest".to_owned(),
            ),
            (
                "ghcr.io/team/a/b:v1.0-x",
                "ghcr.io/team/a/b:v1.0-x".to_owned(),
            ),
            (
                "Registry.Example.COM:5000/app",
                "registry.example.com:5000/app:latest".to_owned(),
            ),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("a__b/c.d_e--f", "docker.io/a__b/c.d_e--f:latest".to_owned()),
            ("cafe:latest", "docker.io/library/cafe:latest".to_owned()),
            ("library/cafe", "docker.io/library/cafe:latest".to_owned()),
            (
                &format!("alpine@{digest}"),
                format!("docker.io/library/alpine@{digest}"),
            ),
            (
                &format!("alpine:3@{digest}"),
                format!("docker.io/library/alpine@{digest}"),
            ),
        ] {
            assert_eq!(full(text), expected, "{text}");
        }
        for text in [
            "alpine:3",
            "team/app:1",
            "docker.io/foo.bar/x:1",
            "ghcr.io/library/x:1",
        ] {
            assert_eq!(ImageReference::parse(text).unwrap().to_string(), text);
        }
        let both = ImageReference::parse(&format!("alpine:3@{digest}")).unwrap();
        assert_eq!(both.to_string(), format!("alpine:3@{digest}"));
    }

    #[test]
    fn class_17_what_is_not_a_reference_is_refused() {
        let long_name = "a".repeat(256);
        let long_tag = format!("alpine:{}", "t".repeat(129));
        let id = "ab".repeat(32);
        let with_id = format!("sha256:{id}");
        let short_digest = format!("alpine@sha256:{}", "a".repeat(63));
        let upper_digest = format!("alpine@sha256:{}", "A".repeat(64));
        let huge = "a/".repeat(1 << 20);
        let hostile = [
            // Ids and what begins like one.
            "0",
            "00",
            "10",
            "ff",
            "10be",
            "cafe",
            "deadbeef",
            "0123456789ab",
            &id,
            &with_id,
            "sha256:10be",
            "sha256:",
            "sha512:00",
            "sha384:ff",
            "sha256:10be@sha256:00",
            // Other paths and queries of Docker's API.
            "../version?x=",
            "../info?x=",
            "../../v1.41/volumes?x=",
            "alpine/../alpine:3",
            "../containers/json?all=1&x=",
            "/alpine:3",
            "../images/get?names=python:3.11-slim&x=",
            "alpine/json?x=y",
            "alpine?x",
            "alpine#x",
            "alpine%2f..",
            "alpine;x",
            "alpine&x",
            "a//b",
            "./alpine",
            "alpine/.",
            "alpine/..",
            "alpine/",
            "//alpine",
            "\\alpine",
            "alpine\\..",
            "..",
            ".",
            "/",
            ":",
            "@",
            "-",
            "_",
            "::",
            "a:",
            "a@",
            ":a",
            "@a",
            "a:b:c",
            "a:b/c:d:e",
            // Spaces, control characters, other scripts.
            "",
            " ",
            " alpine",
            "alpine ",
            "al pine",
            "alpine\n",
            "alpine\r\nHost: x",
            "alpine\0",
            "alpine\t3",
            "älpine",
            "alpıne",
            "ａlpine",
            "alpine\u{202e}",
            "alpine\u{200b}",
            "\u{feff}alpine",
            // Names that end or begin with a separator, or double one.
            "-alpine",
            "alpine-",
            ".alpine",
            "alpine.",
            "_alpine",
            "alpine_",
            "al..pine",
            "al___pine",
            "al._pine",
            "al-_pine",
            "team/-app",
            "team/app-",
            "Alpine",
            "team/App",
            "Team/app",
            "ALPINE:3",
            // Tags and digests.
            "alpine:-x",
            "alpine:.x",
            "alpine:x/y z",
            "alpine:x y",
            "alpine:ä",
            &long_tag,
            &short_digest,
            &upper_digest,
            "alpine@md5:00",
            "alpine@sha256",
            "alpine@",
            "alpine@sha256:zz",
            "alpine@@sha256:00",
            "alpine:3@",
            "@sha256:00",
            // Registries.
            "http://127.0.0.1/x",
            "https://ghcr.io/x",
            "docker://alpine",
            "file:///etc/passwd",
            "user@ghcr.io/x",
            "user:pass@ghcr.io/x",
            "ghcr.io:/x",
            "ghcr.io:port/x",
            "ghcr.io:+80/x",
            "ghcr.io:99999/x",
            "ghcr.io:80:80/x",
            "ghcr..io/x",
            ".ghcr.io/x",
            "ghcr.io./x",
            "-ghcr.io/x",
            "ghcr-.io/x",
            "[::1]:5000/x",
            "[::ffff:127.0.0.1]/x",
            "::1/x",
            "ghcr.io/",
            "localhost:5000",
            "ghcr_io.x/x",
            "127.0.0.1:8598/",
            "LOCALHOST/x y",
            &long_name,
            &huge,
        ];
        assert!(hostile.len() >= 100, "{}", hostile.len());
        for text in hostile {
            // A name with a port and no path is a name with a tag, and harmless.
            if text == "localhost:5000" {
                assert_eq!(full(text), "docker.io/library/localhost:5000");
                continue;
            }
            let fault = ImageReference::parse(text).expect_err(text);
            assert!(fault.at <= text.len(), "{text}: {fault:?}");
            assert!(fault.to_string().len() < 600, "{fault}");
        }
    }

    #[test]
    fn a_fault_says_where_and_what_was_expected() {
        let fault = ImageReference::parse("ghcr.io/team/App:1").unwrap_err();
        assert_eq!(fault.at, 13);
        assert!(
            fault.message.starts_with("expected a name of a-z"),
            "{fault}"
        );
        let fault = ImageReference::parse("10").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "invalid image reference `10`: this could be the beginning of an image's id; if it is a name, \
             add the tag: `10:latest`"
        );
    }

    #[test]
    fn built_images_have_no_name_for_others() {
        for text in [
            "trainyard/build:00",
            "docker.io/trainyard/build",
            "trainyard/build/x:1",
        ] {
            assert!(
                ImageReference::parse(text).unwrap().is_built_here(),
                "{text}"
            );
        }
        for text in [
            "trainyard/builder",
            "ghcr.io/trainyard/build",
            "trainyard-test/busybox:1",
        ] {
            assert!(
                !ImageReference::parse(text).unwrap().is_built_here(),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_was_read_is_read_again_as_the_same(
            text in "([a-z0-9.-]{1,12}(:[0-9]{1,4})?/)?[a-z0-9._-]{1,8}(/[a-z0-9_.]{1,6}){0,2}(:[A-Za-z0-9_.-]{1,8})?"
        ) {
            if let Ok(reference) = ImageReference::parse(&text) {
                prop_assert_eq!(&ImageReference::parse(&reference.to_string()).unwrap(), &reference);
                prop_assert_eq!(&ImageReference::parse(&reference.exact()).unwrap(), &reference);
            }
        }

        #[test]
        fn what_is_sent_to_docker_stays_one_path_whatever_was_written(text in ".{0,80}") {
            if let Ok(reference) = ImageReference::parse(&text) {
                let sent = reference.exact();
                prop_assert!(!sent.contains(['?', '#', '%', '\\', ' ', '&']), "{}", sent);
                prop_assert!(sent.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{}", sent);
                prop_assert!(!is_hex(&sent) && !is_id(&sent), "{}", sent);
            }
        }
    }
}
