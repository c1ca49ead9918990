//! The artifact store's folder as an outsider sees it.

use std::path::{Path, PathBuf};

use crate::digest::sha256;

/// What is wrong with the content of the folder `root`: files that are not what their names say, and what was
/// left of arrivals. Empty is good, once nothing arrives.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn spoilt(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in files_below(root) {
        let shown = file.display();
        if file.starts_with(root.join("incoming")) {
            found.push(format!("left of an arrival: {shown}"));
        } else if file
            .file_name()
            .is_none_or(|name| name.to_string_lossy() != sha256(&std::fs::read(&file).unwrap()))
        {
            found.push(format!("its content is not what its name says: {shown}"));
        }
    }
    found
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_tests::place::Place;

    #[test]
    fn a_file_that_is_cut_short_or_left_over_is_found() {
        let place = Place::new();
        place.write(&format!("ab/cd/{}", sha256(b"whole")), "whole");
        std::fs::create_dir_all(place.join("incoming")).unwrap();
        assert_eq!(spoilt(place.path()), [""; 0]);
        place.write(&format!("ab/ce/{}", sha256(b"whole")), "who");
        place.write("incoming/output-1", "whole");
        assert_eq!(spoilt(place.path()).len(), 2);
    }
}
