//! Another version of the program, beside the one under test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use trainyard_tests::cli;
use trainyard_tests::place::Place;

use crate::programme;

/// The next version of the program, below `place`: what `RIG_NEXT` points to, if anything; otherwise this
/// one's own code, under the next version's name.
///
/// # Panics
/// When it does not call itself by another version.
#[must_use]
pub fn next(place: &Place) -> PathBuf {
    let program = programme::next_version().unwrap_or_else(|| renamed(place));
    let version = |program: &PathBuf| {
        let mut command = cli::command_of(program, place.path(), &[], &["--version"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let (this, next) = (version(&cli::binary()), version(&program));
    assert!(
        next.starts_with("trainyard ") && next != this,
        "{} says that it is {next}, as {this}",
        program.display()
    );
    program
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
