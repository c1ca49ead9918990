//! An attempt's folder: everything there is to know of it.
//!
//! | entry           | what it is                                                             |
//! |-----------------|------------------------------------------------------------------------|
//! | `identity.json` | attempt, fence and spec hash                                           |
//! | `launch.json`   | program and environment; gone once it was started                      |
//! | `workspace/`    | the source tree, and the program's working directory                   |
//! | `inputs/`       | declared inputs, read-only                                             |
//! | `outputs/`      | what the program leaves                                                |
//! | `stdout`, `stderr` | what it printed                                                     |
//! | `started`       | made before the program is started, at most once; holds the boot's id  |
//! | `pid`           | the wrapper's line of `/proc/self/stat`: its id and time of start      |
//! | `exit`          | the exit code and a line end: written once, in one write               |
//!
//! The folder appears under its name only when all is laid out, by a rename. `started` without `pid`
//! or without a living wrapper and without `exit` means that nobody can tell how it ended.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use trainyard_core::id::{AttemptId, Fence};

use super::launch::Launch;
use super::layout;
use super::session::{self, Session, Signal};
use crate::archive::storage;
use crate::contract::{Error, ErrorKind, Handle, Listed, Status};
use crate::spec::{AttemptSpec, SpecHash};

/// How long a wrapper may take to write its id down before it counts as never come to life.
const COMING_UP: Duration = Duration::from_secs(5);

/// One attempt's folder, existing or not.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    attempt: AttemptId,
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    attempt: String,
    fence: i64,
    spec: String,
}

impl Folder {
    pub(super) fn of(attempts: &Path, attempt: AttemptId) -> Self {
        Self {
            attempt,
            path: attempts.join(attempt.to_string()),
        }
    }

    pub(super) fn name(&self) -> String {
        self.attempt.to_string()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn outputs(&self) -> PathBuf {
        self.path.join("outputs")
    }

    pub(super) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the folder with all in it, or adopts the one that is there.
    pub(super) fn create(&self, spec: &AttemptSpec, launch: &Launch) -> Result<(), Error> {
        if self.exists() {
            return self.adopt(spec);
        }
        let new = self.beside("new");
        remove_tree(&new).map_err(|error| storage(&error))?;
        let made = (|| {
            make_private(&new)?;
            layout::lay_out(&new, spec)?;
            launch.write(&new.join("launch.json"))?;
            let identity = Identity {
                attempt: spec.attempt.to_string(),
                fence: spec.fence.0,
                spec: spec.hash().0,
            };
            fs::write(new.join("identity.json"), serde_json::to_vec(&identity)?)?;
            fs::rename(&new, &self.path)
        })();
        match made {
            Ok(()) => Ok(()),
            // Somebody else was faster.
            Err(_) if self.exists() => self.adopt(spec),
            Err(error) => Err(storage(&error)),
        }
    }

    fn adopt(&self, spec: &AttemptSpec) -> Result<(), Error> {
        match self.identity() {
            Some(found) if found.spec == spec.hash().0 => Ok(()),
            Some(_) | None => Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "a folder of attempt {} exists, made from another spec",
                    self.attempt
                ),
            )),
        }
    }

    fn identity(&self) -> Option<Identity> {
        let text = fs::read(self.path.join("identity.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// What is so now. `spawned` is the wrapper's id where it is a child of this very process.
    pub(super) fn status(&self, spawned: Option<u32>) -> Option<Status> {
        if !self.exists() {
            return None;
        }
        if let Some(exited) = self.exited() {
            return Some(exited);
        }
        let Some(started) = self.written_at("started") else {
            return Some(Status::Created);
        };
        let alive = match self.session() {
            Some(session) => session.is_alive() && self.is_of_this_boot(),
            None => match spawned {
                Some(pid) => session::is_running(pid),
                None => started.elapsed().is_ok_and(|age| age < COMING_UP),
            },
        };
        if alive {
            return Some(Status::Running {
                since: started.into(),
            });
        }
        // It may have written its end down since we looked.
        Some(self.exited().unwrap_or(Status::Unknown))
    }

    fn written_at(&self, entry: &str) -> Option<SystemTime> {
        let written = fs::metadata(self.path.join(entry));
        written.and_then(|entry| entry.modified()).ok()
    }

    fn exited(&self) -> Option<Status> {
        let text = fs::read_to_string(self.path.join("exit")).ok()?;
        let code = text.strip_suffix('\n')?.parse().ok()?;
        let at = self.written_at("exit")?;
        Some(Status::Exited {
            code,
            out_of_memory: false,
            since: self.written_at("started").unwrap_or(at).into(),
            at: at.into(),
        })
    }

    fn session(&self) -> Option<Session> {
        let stat = fs::read_to_string(self.path.join("pid")).ok()?;
        Session::parse(stat.strip_suffix('\n')?)
    }

    fn is_of_this_boot(&self) -> bool {
        let started_in = fs::read_to_string(self.path.join("started")).unwrap_or_default();
        started_in == session::boot_id()
    }

    /// Says that the program is being started; false where that was said before.
    pub(super) fn mark_started(&self) -> io::Result<bool> {
        let marker = self.path.join("started");
        match OpenOptions::new().write(true).create_new(true).open(marker) {
            Ok(mut marker) => {
                marker.write_all(session::boot_id().as_bytes())?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the mark back: the program was not started after all.
    pub(super) fn unmark_started(&self) {
        // Left behind, it makes the attempt one whose end nobody can tell: never a second start.
        let _ = fs::remove_file(self.path.join("started"));
    }

    /// Writes the end down unless the wrapper did.
    pub(super) fn record_exit(&self, code: i32) -> Result<(), Error> {
        let exit = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.path.join("exit"));
        match exit.and_then(|mut file| file.write_all(format!("{code}\n").as_bytes())) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(storage(&error)),
        }
    }

    /// Sends a signal to the wrapper and all that it started, if there is somebody to notice it;
    /// `anyway` does not look for the program, only for its wrapper.
    pub(super) fn signal(&self, signal: Signal, anyway: bool) -> bool {
        match self.session() {
            Some(session) if session.is_alive() && self.is_of_this_boot() => {
                let ready = anyway || session.has_program();
                if ready {
                    session.signal(signal);
                }
                ready
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Removes the folder. It goes out of sight at once.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let old = self.beside("old");
        let removed = remove_tree(&old).and_then(|()| match fs::rename(&self.path, &old) {
            Ok(()) => remove_tree(&old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        });
        removed.map_err(|error| storage(&error))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.path
            .with_file_name(format!(".{}.{suffix}", self.attempt))
    }
}

pub(super) fn list(attempts: &Path) -> Result<Vec<Listed>, Error> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(attempts).map_err(|error| storage(&error))? {
        let name = entry.map_err(|error| storage(&error))?.file_name();
        let Some(attempt) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let folder = Folder::of(attempts, attempt);
        let (Some(identity), Some(status)) = (folder.identity(), folder.status(None)) else {
            continue;
        };
        listed.push(Listed {
            handle: Handle {
                attempt,
                container: folder.name(),
            },
            fence: Fence(identity.fence),
            spec_hash: SpecHash(identity.spec),
            status,
        });
    }
    Ok(listed)
}

/// Makes a folder that only its owner can enter, and those above it.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Writes a new file that only its owner can read.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

/// Removes a tree, folders that nobody may write included.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            layout::make_writable(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
