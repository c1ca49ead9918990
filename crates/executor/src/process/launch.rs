//! Starting a program so that it outlives the daemon and leaves its end behind.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use trainyard_core::render::RenderedCommand;

use super::folder::{self, Folder};
use crate::archive::storage;
use crate::contract::{Error, ErrorKind};
use crate::shell;
use crate::spec::AttemptSpec;

/// What leads the session. It writes down who it is, runs the program, and writes down how that
/// ended, in one write and only where nobody did. Signals to the group reach the program; the
/// wrapper itself stays to see the end (`trap`), then takes what the program left behind with it.
/// A signal that comes before the program is there keeps it from running. The program comes with
/// its full path, so that it is never taken for a word of the shell's own; the wrapper's variables
/// have names that no program's environment has.
const WRAPPER: &str = r#"trainyard_folder=$1
shift
trainyard_code=
trap 'trainyard_code=${trainyard_code:-129}' HUP
trap 'trainyard_code=${trainyard_code:-130}' INT
trap 'trainyard_code=${trainyard_code:-143}' TERM
read -r trainyard_stat </proc/self/stat
printf '%s\n' "$trainyard_stat" >"$trainyard_folder/pid"
if [ -z "$trainyard_code" ]; then
    "$@"
    trainyard_code=$?
fi
set -C
printf '%s\n' "$trainyard_code" >"$trainyard_folder/exit"
kill -KILL 0
"#;

/// Where programs are looked for when no `PATH` is set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What to start, as it waits in the attempt's folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    program: Vec<String>,
    env: BTreeMap<String, String>,
}

/// What became of a start.
pub(super) enum Started {
    Now(Child),
    Before,
    NoFolder,
}

impl Launch {
    /// What a spec asks for, with `env` beneath its own environment.
    pub(super) fn new(
        spec: &AttemptSpec,
        mut env: BTreeMap<String, String>,
        folder: &Folder,
    ) -> Result<Self, Error> {
        let program = match &spec.command {
            Some(RenderedCommand::Script(script)) => shell::program(script),
            Some(RenderedCommand::Exec(items)) if !items.is_empty() => items.clone(),
            Some(RenderedCommand::Exec(_)) | None => {
                return Err(Error::new(
                    ErrorKind::Start,
                    "a process has no image to bring a command along; \
                     give the stage `run:` or `command:`",
                ));
            }
        };
        let place = |name: &str| folder.path().join(name).display().to_string();
        env.extend(spec.env.clone());
        env.extend(
            spec.secrets
                .iter()
                .map(|(name, value)| (name.clone(), value.expose_secret().to_owned())),
        );
        env.insert("INPUTS".to_owned(), place("inputs"));
        env.insert("OUTPUTS".to_owned(), place("outputs"));
        Ok(Self { program, env })
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        folder::write_private(path, &serde_json::to_vec(self)?)
    }

    /// The program's full path.
    fn find_program(&self, workspace: &Path) -> Result<PathBuf, Error> {
        let name = self.program.first().map(String::as_str).unwrap_or_default();
        let refused = |what: String| Err(Error::new(ErrorKind::Start, what));
        if name.contains('/') {
            let path = workspace.join(name);
            return match fs::metadata(&path) {
                Ok(found) if is_program(&found) => Ok(path),
                Ok(_) => refused(format!("`{name}` is there, but is not executable")),
                Err(_) => refused(format!("there is no program `{name}`")),
            };
        }
        let path = self.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let found = find(name, path);
        found.map_or_else(
            || refused(format!("there is no program `{name}` in {path}")),
            Ok,
        )
    }
}

/// Looks for a program in the folders of a `PATH`.
fn find(name: &str, path: &str) -> Option<PathBuf> {
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(name))
        .find(|path| fs::metadata(path).is_ok_and(|found| is_program(&found)))
}

fn is_program(found: &fs::Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}

impl Folder {
    /// Starts the program unless that was done before. To be called within a runtime.
    pub(super) fn start(&self) -> Result<Started, Error> {
        if !self.exists() {
            return Ok(Started::NoFolder);
        }
        let waiting = self.path().join("launch.json");
        let launch: Launch = match fs::read(&waiting) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Error::new(ErrorKind::Engine, error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Started::Before),
            Err(error) => return Err(storage(&error)),
        };
        let workspace = self.path().join("workspace");
        let program = launch.find_program(&workspace)?;
        let setsid = find("setsid", DEFAULT_PATH).ok_or_else(|| {
            Error::new(
                ErrorKind::Engine,
                "this host has no `setsid`; install util-linux to run processes",
            )
        })?;
        let log = |name: &str| {
            let path = self.path().join(name);
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|e| storage(&e))
        };
        let (stdout, stderr) = (log("stdout")?, log("stderr")?);
        if !self.mark_started().map_err(|error| storage(&error))? {
            return Ok(Started::Before);
        }
        let spawned = Command::new(setsid)
            .args(["/bin/sh", "-c", WRAPPER, "trainyard"])
            .arg(self.path())
            .arg(program)
            .args(&launch.program[1..])
            .env_clear()
            .envs(&launch.env)
            .current_dir(workspace)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        match spawned {
            Ok(child) => {
                // The secrets in it have done their work. Left over, it is removed with the folder.
                let _ = fs::remove_file(waiting);
                Ok(Started::Now(child))
            }
            Err(error) => {
                self.unmark_started();
                Err(Error::new(
                    ErrorKind::Start,
                    format!("the program could not be started: {error}"),
                ))
            }
        }
    }
}
