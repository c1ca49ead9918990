//! The Postgres programs of this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::ClusterError;

/// The oldest version that the store's SQL runs on.
pub const OLDEST: u32 = 14;

const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder with `initdb`, `pg_ctl` and `postgres`.
    pub folder: PathBuf,
    pub major: u32,
}

/// All installations, the newest first; of a given folder, only what is in it.
#[must_use]
pub fn find(given: Option<&Path>) -> Vec<Binaries> {
    let folders = match given {
        Some(folder) => vec![folder.to_owned()],
        None => usual_folders(),
    };
    let mut found: Vec<Binaries> = Vec::new();
    for folder in folders {
        let is_known = |known: &Binaries| known.folder == folder;
        if found.iter().any(is_known) || !PROGRAMS.iter().all(|name| folder.join(name).is_file()) {
            continue;
        }
        if let Some(major) = major_of(&folder) {
            found.push(Binaries { folder, major });
        }
    }
    // Stable: of equal versions, the one found first.
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found
}

/// The installation to use: the newest, or the one that made the cluster.
pub(super) fn choose(
    given: Option<&Path>,
    made_by: Option<u32>,
    cluster: &Path,
) -> Result<Binaries, ClusterError> {
    let found = find(given);
    let fits = |binaries: &&Binaries| match made_by {
        Some(major) => binaries.major == major,
        None => binaries.major >= OLDEST,
    };
    if let Some(binaries) = found.iter().find(fits) {
        return Ok(binaries.clone());
    }
    Err(match (made_by, found.is_empty()) {
        (Some(made_by), _) => ClusterError::OtherVersion {
            cluster: cluster.to_owned(),
            made_by,
            installed: found.iter().map(|binaries| binaries.major).collect(),
        },
        (None, true) => ClusterError::NotInstalled {
            given: given.map(Path::to_owned),
        },
        (None, false) => ClusterError::TooOld {
            newest: found[0].major,
        },
    })
}

/// The folders of distributions, then `$PATH`. Links are followed, since the programs search for each other in their
/// real folder.
fn usual_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(versions) = Path::new("/usr/lib/postgresql").read_dir() {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    if let Ok(entries) = Path::new("/usr").read_dir() {
        let is_rpm = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("pgsql-");
        let versions = entries.flatten().filter(|entry| is_rpm(&entry.file_name()));
        folders.extend(versions.map(|version| version.path().join("bin")));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(
        std::env::split_paths(&path)
            .filter_map(|folder| folder.join("postgres").canonicalize().ok())
            .filter_map(|program| program.parent().map(Path::to_owned)),
    );
    folders
}

fn major_of(folder: &Path) -> Option<u32> {
    let output = Command::new(folder.join("postgres"))
        .arg("--version")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// From `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, also `18beta1`.
fn parse_major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_program_says() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("bash: postgres: not found"), None);
    }

    #[test]
    fn a_folder_without_the_programs_is_named() {
        let error = choose(Some(Path::new("/nonexistent")), None, Path::new("/c")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }

    #[test]
    fn a_cluster_of_another_version_is_not_touched() {
        let error = choose(None, Some(9), Path::new("/data/postgres/cluster")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("Postgres 9") && text.contains("/data/postgres/cluster"),
            "{text}"
        );
    }
}
