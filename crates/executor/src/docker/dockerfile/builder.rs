//! The builders of Docker, and the features that only one of them knows.

use std::collections::BTreeMap;

use super::DockerfileFault;

/// The arguments that BuildKit sets by itself.
pub(super) const AUTOMATIC: [&str; 9] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// The builder: what a Dockerfile may contain, and what it means, depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Builder {
    /// The builder from before BuildKit.
    Classic,
    /// The BuildKit within Docker.
    BuildKit(BuildKit),
}

/// The facts about a BuildKit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuildKit {
    /// The version of Docker that it is a part of.
    pub(crate) version: (u32, u32),
    /// The architecture of its machine, as Docker names it: `amd64`.
    pub(crate) arch: String,
}

/// A feature that a builder does not know.
pub(super) struct Lack {
    message: String,
    needs_buildkit: bool,
}

impl Lack {
    /// Adds another way to what an old version of Docker cannot do.
    pub(super) fn with(mut self, instead: &str) -> Self {
        if !self.needs_buildkit {
            self.message.push_str(instead);
        }
        self
    }

    pub(super) fn at(self, line: usize, column: usize) -> DockerfileFault {
        DockerfileFault {
            line,
            column,
            message: self.message,
            needs_buildkit: self.needs_buildkit,
        }
    }
}

impl Builder {
    /// Whether the builder knows a feature that the classic one lacks, and BuildKit has `since` a version of Docker.
    pub(super) fn knows(&self, what: &str, since: (u32, u32)) -> Result<(), Lack> {
        match self {
            Self::Classic => Err(Lack {
                message: format!("{what} needs BuildKit"),
                needs_buildkit: true,
            }),
            Self::BuildKit(BuildKit { version, .. }) if *version < since => Err(Lack {
                message: format!(
                    "{what} needs the BuildKit of Docker {}.{} or newer, and this is Docker {}.{}: update Docker",
                    since.0, since.1, version.0, version.1
                ),
                needs_buildkit: false,
            }),
            Self::BuildKit(_) => Ok(()),
        }
    }

    /// The arguments that the builder sets by itself before the first `FROM`, with values that all its versions
    /// agree on.
    pub(super) fn automatic(&self) -> BTreeMap<String, String> {
        let Self::BuildKit(BuildKit { arch, .. }) = self else {
            return BTreeMap::new();
        };
        // Others have variants.
        if !matches!(arch.as_str(), "amd64" | "arm64") {
            return BTreeMap::new();
        }
        let both = ["BUILD", "TARGET"].into_iter().flat_map(|which| {
            [
                (format!("{which}PLATFORM"), format!("linux/{arch}")),
                (format!("{which}OS"), "linux".to_owned()),
                (format!("{which}ARCH"), arch.clone()),
            ]
        });
        both.collect()
    }
}
