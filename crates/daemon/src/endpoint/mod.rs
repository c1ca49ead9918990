//! How the command line finds a running daemon: the daemon writes its address and the admin token, commands read
//! them.
//!
//! A daemon writes `endpoint.json` and `token` into its data folder, and the path of this folder into a file of the
//! user, so that commands of the same user need no flags. [`find`] checks, in this order, flags and variables
//! (`TRAINYARD_URL`, `TRAINYARD_TOKEN`), a given data folder, `./.trainyard`, and the user's file. A given data folder
//! or `./.trainyard` whose daemon was stopped ends the search, so that a command never reaches another project's daemon
//! by accident. If the daemon of the user's file was stopped, the one that started last of those that run is used, and
//! the command says so.
//!
//! 1. The current folder may be a checkout of an untrusted repository that contains a `.trainyard`. It is used only
//!    if a daemon of this user made it ([`KnownFolders`]), and never for an address on another machine.
//! 2. A given token is not sent to an address that only a file names.

mod lookup;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

pub use self::lookup::{Found, Given, NotFound, find};

use crate::data_dir::DataDir;
use crate::known_folders::{self, KnownFolders, write};
use crate::private_file::{self, Links, Others};

const ENDPOINT: &str = "endpoint.json";
const TOKEN: &str = "token";

/// The data folder of `trainyard dev`, relative to the folder that it is started in.
pub const DEV_DATA_DIR: &str = ".trainyard";

/// The address of a daemon, as written to its data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens: `http://127.0.0.1:8080`.
    pub url: String,
    pub pid: u32,
}

/// The files that were written for the command line; [`Published::retract`] removes the address.
#[derive(Debug)]
pub struct Published {
    endpoint: PathBuf,
    /// The file with the admin token.
    pub token: PathBuf,
}

/// Writes the address and the admin token (both mode 0600) into the data folder, and the path of the folder into the
/// user's file. The token is written first: a command that finds the address also finds the token.
///
/// # Errors
/// The data folder cannot be written. A problem with the user's file is only logged: flags serve as well.
pub fn publish(
    data: &DataDir,
    url: &str,
    token: &SecretString,
    places: &Places,
) -> io::Result<Published> {
    let endpoint = Endpoint {
        url: url.to_owned(),
        pid: std::process::id(),
    };
    let published = Published {
        endpoint: data.path().join(ENDPOINT),
        token: data.path().join(TOKEN),
    };
    write(&published.token, 0o600, token.expose_secret().as_bytes())?;
    write(
        &published.endpoint,
        0o600,
        serde_json::to_string_pretty(&endpoint)?.as_bytes(),
    )?;
    if let Err(error) = places.known.note(data.path()) {
        tracing::debug!(path = %data.path().display(), error = %error, "could not add the data folder to the user's list");
    }
    if let Some(pointer) = &places.pointer
        && let Err(error) = point(pointer, data.path())
    {
        tracing::debug!(path = %pointer.display(), error = %error, "could not record the newest daemon for this user");
    }
    Ok(published)
}

/// The admin token that an earlier start wrote into the data folder.
///
/// # Errors
/// The file exists and cannot be read.
pub fn read_token(data: &DataDir) -> io::Result<Option<SecretString>> {
    token_in(data.path(), &private_file::owners())
}

impl Published {
    /// Removes the address when the daemon stops. The token stays; the next start uses it again.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn retract(self) -> io::Result<()> {
        match std::fs::remove_file(self.endpoint) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The folder that the command was called in.
    pub working_dir: PathBuf,
    /// The user's file that names the newest daemon's data folder.
    pub pointer: Option<PathBuf>,
    /// The data folders that this user's daemons made.
    pub known: KnownFolders,
}

impl Places {
    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            working_dir: std::env::current_dir().unwrap_or_default(),
            pointer: known_folders::of_user().map(|folder| folder.join("newest-daemon")),
            known: KnownFolders::of_this_user(),
        }
    }
}

fn token_in(folder: &Path, owners: &[u32]) -> io::Result<Option<SecretString>> {
    let path = folder.join(TOKEN);
    match private_file::read(&path, Others::Nothing, Links::Refused, owners) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => Ok(Some(SecretString::from(text?.trim()))),
    }
}

fn point(pointer: &Path, data_dir: &Path) -> io::Result<()> {
    if let Some(folder) = pointer.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    write(pointer, 0o600, data_dir.as_os_str().as_bytes())
}
