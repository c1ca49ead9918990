//! Versions of the program: the build under test, and another version.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use trainyard_tests::cli;
use trainyard_tests::place::Place;

use crate::digest::sha256;
use crate::programme;

/// How much of a program's hash distinguishes builds.
const SHOWN: usize = 12;

/// The build under test, by its version and its program's hash: `0.1.0+5d41402abc4b`. Found out once: it
/// stays the same as long as a programme runs, or its figures would be of two.
///
/// # Panics
/// When it was not built.
pub(crate) fn this() -> &'static str {
    static THIS: OnceLock<String> = OnceLock::new();
    THIS.get_or_init(|| {
        let program = cli::binary();
        let reported = version(&program, Place::new().path());
        name(&reported, &std::fs::read(&program).unwrap())
    })
}

/// The name of a build, by its version and by a hash of its program.
fn name(reported: &str, program: &[u8]) -> String {
    let version = reported
        .strip_prefix("trainyard ")
        .unwrap_or(reported)
        .trim();
    format!("{version}+{}", &sha256(program)[..SHOWN])
}

/// The next version of the program, below `place`: what `RIG_NEXT` points to, if anything; otherwise this
/// one's own code, under the next version's name.
///
/// # Panics
/// When it does not call itself by another version.
#[must_use]
pub fn next(place: &Place) -> PathBuf {
    let program = programme::next_version().unwrap_or_else(|| renamed(place));
    let this = version(&cli::binary(), place.path());
    let next = version(&program, place.path());
    assert!(
        next.starts_with("trainyard ") && next != this,
        "{} says that it is {next}, as {this}",
        program.display()
    );
    program
}

/// The version that a program prints.
fn version(program: &Path, folder: &Path) -> String {
    let mut command = cli::command_of(program, folder, &[], &["--version"]);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// The program with another last digit in its version.
fn renamed(place: &Place) -> PathBuf {
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let mut program = std::fs::read(cli::binary()).unwrap();
    let mut begin = 0;
    while let Some(found) = program[begin..]
        .windows(version.len())
        .position(|window| window == version)
    {
        begin += found + version.len();
        let last = &mut program[begin - 1];
        *last = b'0' + (*last - b'0' + 1) % 10;
    }
    let path = place.join("trainyard-next");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_of_one_version_differ_by_their_programs() {
        let first = name("trainyard 0.1.0\n", b"hello");
        assert_eq!(first, "0.1.0+2cf24dba5fb0");
        assert_ne!(name("trainyard 0.1.0\n", b"hello!"), first);
    }
}
