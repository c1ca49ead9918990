//! References to images, by the grammar of the distribution project, and which registries may be asked.
//!
//! Docker takes more than references where it expects an image: ids, prefixes of ids, and anything that follows in
//! the path of a request to its API. An [`ImageReference`] is a checked and complete name: registry, repository, and
//! a tag or digest. Trainyard sends nothing else to Docker on behalf of a DAG file or a Dockerfile.

mod reader;
mod registries;

use std::fmt;

use thiserror::Error;

use self::reader::Reader;
pub use self::registries::{Registries, RegistryFault};

/// The registry of references that name none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The folder of that registry for references without one: `alpine` is `library/alpine`.
const OFFICIAL: &str = "library";

/// Where Trainyard keeps the images that it builds; no reference may name them, as they belong to a repo.
pub const BUILT: &str = "trainyard/build";

/// The build arguments that a step of a Dockerfile gets without declaring them. Docker's build cache ignores them: a
/// step that one build ran through its own proxy would be reused by all other builds, those of other repos too.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Whether a build argument sets a proxy, in any case of its letters. No build may: `ENV` in the Dockerfile can.
#[must_use]
pub fn is_proxy_argument(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

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
    pub text: String,
    /// The fault, and the expected form.
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

    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The digest, if one is named: `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The reference to send to Docker: by digest where there is one, which says all that a tag could.
    #[must_use]
    pub fn exact(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}@{digest}", self.name()),
            (None, tag) => format!("{}:{}", self.name(), tag.as_deref().unwrap_or("latest")),
        }
    }

    /// Whether only Trainyard gives this name to images, see [`BUILT`].
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
            // Without its registry, this would be read as another reference.
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

#[cfg(test)]
mod tests;
