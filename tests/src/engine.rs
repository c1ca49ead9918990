//! The Docker engine as an outsider sees it, by the `docker` command.

use std::process::Command;

/// The image that scenarios run in; `make setup` sees to it.
pub const IMAGE: &str = "alpine:3";

/// Calls `docker` and returns what it printed.
///
/// # Panics
/// When it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(arguments)
        .output()
        .expect("the docker command; `make setup` installs it");
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The containers of one run, in whatever state.
///
/// # Panics
/// When no Docker engine answers.
#[must_use]
pub fn containers_of(instance: &str) -> Vec<String> {
    let filter = format!("label=io.trainyard.instance={instance}");
    docker(&["ps", "-aq", "--no-trunc", "--filter", &filter])
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}
