//! What a red trial leaves: in a folder of its own, what was violated, how to try it again, and what the
//! parts of it say.

use std::fs;
use std::path::{Path, PathBuf};

use crate::panics::caught;

/// The file of the command that tries it again.
const AGAIN: &str = "again";

/// The folder of a red trial.
#[derive(Debug)]
pub(crate) struct Evidence {
    folder: PathBuf,
}

impl Evidence {
    /// Keeps the evidence that needs no answer of a running part.
    ///
    /// # Panics
    /// When it cannot be written.
    pub(crate) fn keep(folder: PathBuf, verdict: &str, again: &str) -> Self {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("verdict"), verdict).unwrap();
        fs::write(folder.join(AGAIN), format!("{again}\n")).unwrap();
        Self { folder }
    }

    /// Adds what its parts say by file name, or why they say nothing.
    ///
    /// # Panics
    /// When it cannot be written.
    pub(crate) fn add(&self, testimony: impl FnOnce() -> Vec<(String, String)>) {
        let reported = caught(testimony)
            .unwrap_or_else(|said| vec![("no-testimony".to_owned(), format!("{said}\n"))]);
        for (name, text) in reported {
            fs::write(self.folder.join(name), text).unwrap();
        }
    }
}

/// The command that tries the red trial of a folder again, if it left one.
pub(crate) fn command_in(folder: &Path) -> Option<String> {
    let command = fs::read_to_string(folder.join(AGAIN)).ok()?;
    Some(command.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_tests::place::Place;

    #[test]
    fn a_folder_has_the_violations_even_if_parts_do_not_answer() {
        let place = Place::new();
        let folder = place.join("F0-nothing-1");
        assert_eq!(command_in(&folder), None);
        let evidence = Evidence::keep(folder.clone(), "seen\n", "RIG_ONLY=9 cargo test");
        evidence.add(|| vec![("log".to_owned(), "what was said".to_owned())]);
        evidence.add(|| panic!("no answer"));
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("verdict"), "seen\n");
        assert_eq!(read("log"), "what was said");
        assert_eq!(read("no-testimony"), "no answer\n");
        assert_eq!(command_in(&folder).unwrap(), "RIG_ONLY=9 cargo test");
    }
}
