//! Finds security fixes that a Docker engine lacks, as far as its versions show.
//!
//! Only faults count that a stage or a build can exploit here: BuildKit's where it is used, and never those of other
//! frontends (CVE-2024-23653) and of authorization plugins (CVE-2024-41110), of which Trainyard uses none.
//!
//! Distributions add fixes to old versions, and the number stays: Debian 12 has runc 1.1.5+ds1 with the fix of
//! 1.1.12. The version shows that it is such a build, but not whether it has the fix.

use std::fmt;

use bollard::models::{SystemVersion, SystemVersionComponents};

/// A fault of a part of Docker that has been fixed.
struct Fault {
    /// Docker's name of the part.
    component: &'static str,
    advisories: &'static str,
    /// The first release of each branch with the fix; later branches have it.
    fixed: &'static [[u32; 3]],
}

const FAULTS: [Fault; 4] = [
    // An escape from the container by its working directory.
    Fault {
        component: "runc",
        advisories: "CVE-2024-21626",
        fixed: &[[1, 1, 12]],
    },
    // Writing to the host's /proc by links in place of /dev/null and /dev/pts.
    Fault {
        component: "runc",
        advisories: "CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881",
        fixed: &[[1, 2, 8], [1, 3, 3], [1, 4, 0]],
    },
    // An image that passes for a layer of another user's build.
    Fault {
        component: "Engine",
        advisories: "CVE-2024-24557",
        fixed: &[[23, 0, 10], [24, 0, 9], [25, 0, 2]],
    },
    // Reading and removing files of the host by the mounts of a build.
    Fault {
        component: BUILDKIT,
        advisories: "CVE-2024-23651 and CVE-2024-23652 of its BuildKit",
        fixed: &[[23, 0, 10], [24, 0, 9], [25, 0, 2]],
    },
];

/// Docker does not list this as a component of its own.
const BUILDKIT: &str = "BuildKit";

/// A part of a Docker engine that is older than the fixes of known faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfixed {
    /// The part and its version: `runc 1.1.11`.
    component: String,
    /// The faults, and the versions with their fixes.
    missing: Vec<String>,
    /// Whether a distribution built it, which may have added the fixes.
    pub from_distribution: bool,
}

impl fmt::Display for Unfixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            component, missing, ..
        } = self;
        let missing = missing.join(" and of ");
        write!(f, "{component} is older than the fixes of {missing}")?;
        if self.from_distribution {
            f.write_str(
                ". It is a distribution's build: its changelog says whether it has the fixes",
            )?;
        }
        Ok(())
    }
}

/// The parts of a Docker engine that lack fixes of faults that a stage or a build could exploit.
pub(super) fn lacking(version: &SystemVersion, buildkit: bool) -> Vec<Unfixed> {
    let components = version.components.as_deref().unwrap_or_default();
    components
        .iter()
        .filter_map(|part| unfixed(part, buildkit))
        .collect()
}

fn unfixed(part: &SystemVersionComponents, buildkit: bool) -> Option<Unfixed> {
    let (number, suffix) = number(&part.version)?;
    let is_of = |component| {
        component == part.name || (buildkit && component == BUILDKIT && part.name == "Engine")
    };
    let missing: Vec<String> = FAULTS
        .iter()
        .filter(|fault| is_of(fault.component) && !has(number, fault.fixed))
        .map(|fault| format!("{} ({})", fault.advisories, listed(fault.fixed)))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let commit = part
        .details
        .as_ref()
        .and_then(|details| details.get("GitCommit"));
    let commit = commit.map(String::as_str).unwrap_or_default();
    let name = if part.name == "Engine" {
        "the Docker engine"
    } else {
        &part.name
    };
    Some(Unfixed {
        component: format!("{name} {}", part.version),
        missing,
        from_distribution: !(is_released(suffix) && is_upstream(commit)),
    })
}

fn has(number: [u32; 3], fixed: &[[u32; 3]]) -> bool {
    let same_branch = fixed.iter().find(|first| first[..2] == number[..2]);
    same_branch
        .or(fixed.last())
        .is_none_or(|first| number >= *first)
}

fn listed(versions: &[[u32; 3]]) -> String {
    let shown = versions.iter().map(|[a, b, c]| format!("{a}.{b}.{c}"));
    shown.collect::<Vec<_>>().join(", ")
}

/// The number that a version begins with, and the rest.
fn number(version: &str) -> Option<([u32; 3], &str)> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(version.len());
    let (number, suffix) = version.split_at(end);
    let mut parts = number.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some(([next()?, next()?, next().unwrap_or(0)], suffix))
}

/// Whether a version ends like the releases of the projects themselves.
fn is_released(suffix: &str) -> bool {
    suffix.is_empty()
        || ["-rc", "-beta", "-alpha"]
            .iter()
            .any(|word| suffix.starts_with(word))
}

/// Whether a commit is one of the project, such as `5d6db84` or `v1.1.11-0-g4bccb38`, and not the version of a
/// package.
fn is_upstream(commit: &str) -> bool {
    let hash = commit.rsplit_once("-g").map_or(commit, |(_, hash)| hash);
    hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacks(name: &str, version: &str, commit: &str) -> Option<Unfixed> {
        let part = serde_json::json!({
            "Name": name, "Version": version, "Details": {"GitCommit": commit},
        });
        unfixed(&serde_json::from_value(part).unwrap(), false)
    }

    #[test]
    fn class_17_faults_of_buildkit_count_where_it_is_used() {
        let part = serde_json::json!({"Name": "Engine", "Version": "24.0.8"});
        let part = serde_json::from_value(part).unwrap();
        let advisories = |buildkit| unfixed(&part, buildkit).unwrap().to_string();
        assert!(advisories(true).contains("CVE-2024-23652"));
        assert!(!advisories(false).contains("CVE-2024-23652"));
    }

    #[test]
    fn class_17_parts_without_a_fix_are_known_by_their_versions() {
        for (name, version) in [
            ("runc", "1.0.3"),
            ("runc", "1.1.11"),
            ("runc", "1.1.12"),
            ("runc", "1.2.7"),
            ("runc", "1.3.0-rc.1"),
            ("runc", "1.3.2"),
            ("Engine", "20.10.24"),
            ("Engine", "23.0.9"),
            ("Engine", "24.0.8"),
            ("Engine", "25.0.1"),
        ] {
            let found = lacks(name, version, "v1.1.11-0-g4bccb38").unwrap();
            assert!(!found.from_distribution, "{found}");
        }
        for (name, version) in [
            ("runc", "1.2.8"),
            ("runc", "1.3.3"),
            ("runc", "1.4.0"),
            ("runc", "1.10.0"),
            ("runc", "2.0"),
            ("Engine", "23.0.10"),
            ("Engine", "24.0.9"),
            ("Engine", "25.0.2"),
            ("Engine", "28.2.2"),
            ("containerd", "1.0.0"),
            ("runc", "unknown"),
        ] {
            assert_eq!(lacks(name, version, ""), None, "{name} {version}");
        }
    }

    #[test]
    fn class_17_a_distribution_s_build_is_known_and_not_called_faulty() {
        for (name, version, commit) in [
            ("Engine", "20.10.24+dfsg1", "5d6db84"),
            ("runc", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1"),
            ("runc", "1.1.7-0ubuntu1~22.04.2", ""),
            ("Engine", "24.0.5", "24.0.5-0ubuntu1~22.04.1"),
        ] {
            let found = lacks(name, version, commit).unwrap();
            assert!(found.from_distribution, "{found}");
        }
    }

    #[test]
    fn a_fault_is_reported_with_the_versions_that_have_the_fix() {
        assert_eq!(
            lacks("runc", "1.1.11", "").unwrap().to_string(),
            "runc 1.1.11 is older than the fixes of CVE-2024-21626 (1.1.12) and of \
             CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881 (1.2.8, 1.3.3, 1.4.0)"
        );
    }
}
