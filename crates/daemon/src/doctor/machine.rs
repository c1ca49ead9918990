//! Checks this machine: the data folder, its disk, the key, the address.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use secrecy::{ExposeSecret, SecretBox};
use trainyard_core::measure::in_units;
use trainyard_orchestrator::health::space::{Floor, read_space};

use trainyard_store::{SecretKey, Store, StoreOptions};

use super::Check;
use super::postgres::PATIENCE;
use crate::config::{Config, Database};
use crate::descriptors;
use crate::secret_key::{self, KeyError, LENGTH};

/// Less free space is a warning: a stage's artifacts may need more.
const LITTLE: u64 = 5 << 30;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let data = &config.data_dir;
    let mut checks = vec![folder(data)];
    if let Some(there) = nearest(data) {
        checks.push(space(
            "Disk",
            there,
            config.floor(),
            "free some space, or give a folder on another disk with --data-dir",
        ));
    }
    checks.extend([
        key(&config.secret_key_file, &config.database).await,
        address(config),
    ]);
    checks.push(file_descriptors(config));
    checks
}

fn file_descriptors(config: &Config) -> Check {
    const NAME: &str = "File descriptors";
    let available = descriptors::available();
    let connections = descriptors::connections(&config.http, available).in_all;
    let detail = format!("{available}, of which connections take {connections} at the most");
    if available < descriptors::FEW {
        return Check::warning(
            NAME,
            detail,
            format!(
                "raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd) to {} or more",
                descriptors::FEW
            ),
        );
    }
    Check::ok(NAME, detail)
}

fn folder(data: &Path) -> Check {
    const NAME: &str = "Data folder";
    let what_to_do = "give its user the right to write it, or another folder with --data-dir";
    let Some(there) = nearest(data) else {
        return Check::failed(
            NAME,
            format!("{} cannot be reached", data.display()),
            what_to_do,
        );
    };
    let flags = AccessFlags::W_OK | AccessFlags::X_OK;
    match access(there, flags) {
        Err(error) => Check::failed(
            NAME,
            format!("{} cannot be written: {error}", there.display()),
            what_to_do,
        ),
        Ok(()) if !there.is_dir() => Check::failed(
            NAME,
            format!("{} is not a directory", there.display()),
            what_to_do,
        ),
        Ok(()) if there == data => Check::ok(NAME, format!("{} can be written", data.display())),
        Ok(()) => Check::ok(
            NAME,
            format!("{} will be made at the first start", data.display()),
        ),
    }
}

/// Checks free space: with less than the daemon's minimum, it would start no stage.
pub(super) fn space(name: &'static str, path: &Path, floor: Floor, what_to_do: &str) -> Check {
    let room = match read_space(path) {
        Ok(room) => room,
        Err(error) => {
            return Check::warning(name, format!("{}: {error}", path.display()), what_to_do);
        }
    };
    let detail = format!(
        "{} of {} free at {}",
        in_units(room.free),
        in_units(room.total),
        path.display()
    );
    if floor.is_low(room, false) {
        let bound = in_units(floor.of(room));
        let detail = format!("{detail}: with less than {bound}, nothing new is started");
        Check::failed(name, detail, what_to_do)
    } else if room.free < LITTLE {
        Check::warning(name, detail, what_to_do)
    } else {
        Check::ok(name, detail)
    }
}

async fn key(path: &Path, database: &Database) -> Check {
    const NAME: &str = "Key for secrets";
    let failed = |why: String| {
        let what_to_do =
            "restore the key file that belongs to the database, or name it with --secret-key-file";
        Check::failed(NAME, why, what_to_do)
    };
    match secret_key::read(path) {
        Ok(key) if has_another_key(database, Some(&key)).await => failed(format!(
            "{} holds another key than that of the database",
            path.display()
        )),
        Ok(_) => Check::ok(NAME, format!("{} holds a key", path.display())),
        Err(KeyError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            if has_another_key(database, None).await {
                return failed(format!(
                    "{} is missing, and the secrets in the database were encrypted with its key",
                    path.display()
                ));
            }
            Check::ok(
                NAME,
                format!("{} will be made at the first start", path.display()),
            )
        }
        Err(error) => failed(error.to_string()),
    }
}

/// Whether the database was used with another key. `false` also where it does not answer, which has a check of its own,
/// and for a private one, which does not run now.
async fn has_another_key(database: &Database, key: Option<&SecretBox<[u8; LENGTH]>>) -> bool {
    let Database::Url(url) = database else {
        return false;
    };
    let options = StoreOptions {
        secret_key: key.map(|key| SecretKey::from_bytes(*key.expose_secret())),
        acquire_timeout: PATIENCE,
        ..StoreOptions::new(url.expose_secret())
    };
    Store::has_another_key(&options).await.unwrap_or_default()
}

fn address(config: &Config) -> Check {
    const NAME: &str = "Address";
    let listen = config.listen;
    match TcpListener::bind(listen) {
        Ok(_) => Check::ok(NAME, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Check::warning(
            NAME,
            format!("something listens on {listen} already"),
            "unless that is Trainyard itself, choose another address with --listen",
        ),
        Err(error) => Check::failed(
            NAME,
            format!("cannot listen on {listen}: {error}"),
            "choose another address with --listen",
        ),
    }
}

/// The folder, or its nearest ancestor that exists.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| folder.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckStatus;

    #[test]
    fn less_room_than_the_daemon_wants_is_a_failure_and_no_bound_is_none() {
        let place = tempfile::tempdir().unwrap();
        let check = space(
            "Disk",
            place.path(),
            Floor::Bytes(u64::MAX / 2),
            "free some space",
        );
        assert_eq!(check.status, CheckStatus::Failed);
        assert!(check.detail.contains("nothing new is started"), "{check:?}");
        let check = space("Disk", place.path(), Floor::Bytes(0), "free some space");
        assert_ne!(check.status, CheckStatus::Failed);
    }

    #[test]
    fn a_folder_that_will_be_made_passes() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(folder(place.path()).status, CheckStatus::Ok);
        let check = folder(&place.path().join("a/b"));
        assert_eq!(check.status, CheckStatus::Ok);
        assert!(check.detail.contains("will be made"), "{check:?}");
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_named() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        let check = folder(&file.join("data"));
        assert_eq!(check.status, CheckStatus::Failed, "{check:?}");
        assert!(
            check
                .what_to_do
                .is_some_and(|what| what.contains("--data-dir"))
        );
    }

    #[tokio::test]
    async fn a_wrong_key_is_found_before_the_start() {
        let place = tempfile::tempdir().unwrap();
        let private = Database::Private {
            binaries: None,
            image: None,
        };
        let path = place.path().join("key");
        assert_eq!(key(&path, &private).await.status, CheckStatus::Ok);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(key(&path, &private).await.status, CheckStatus::Failed);
    }
}
