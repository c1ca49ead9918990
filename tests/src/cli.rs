//! The `trainyard` binary, called as a user calls it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The path of the binary under test: next to the caller's own build. Cargo puts programs into the folder of the
/// profile, and tests into `deps` below it.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let caller = std::env::current_exe().unwrap();
    let folder = caller.parent().unwrap();
    let profile = match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap(),
        _ => folder,
    };
    let built = profile.join("trainyard");
    assert!(
        built.exists(),
        "{} is missing: `cargo build -p trainyard` makes it",
        built.display()
    );
    built
}

/// The output of a call, and its exit code.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    fn new(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Itself, if it ended well.
    ///
    /// # Panics
    /// When the exit code is not 0.
    #[track_caller]
    #[must_use]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}

/// Calls the binary in `folder` with these variables over a clean environment.
///
/// # Panics
/// When it cannot be started.
pub fn call<S: AsRef<OsStr>>(folder: &Path, variables: &[(&str, &str)], arguments: &[S]) -> Answer {
    call_with_input(folder, variables, arguments, "")
}

/// As [`call`], with text on standard input.
///
/// # Panics
/// When it cannot be started.
pub fn call_with_input<S: AsRef<OsStr>>(
    folder: &Path,
    variables: &[(&str, &str)],
    arguments: &[S],
    input: &str,
) -> Answer {
    use std::io::Write as _;
    let mut child = command(folder, variables, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A call that does not read its input closes it early: that is its own affair.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Answer::new(&child.wait_with_output().unwrap())
}

/// A command for the binary, not started.
#[must_use]
pub fn command<S: AsRef<OsStr>>(
    folder: &Path,
    variables: &[(&str, &str)],
    arguments: &[S],
) -> Command {
    command_of(&binary(), folder, variables, arguments)
}

/// A command for another build of it, not started.
#[must_use]
pub fn command_of<S: AsRef<OsStr>>(
    program: &Path,
    folder: &Path,
    variables: &[(&str, &str)],
    arguments: &[S],
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear();
    for name in ["PATH", "DOCKER_HOST"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("HOME", folder).env("NO_COLOR", "1");
    command.envs(variables.iter().copied());
    command
}
