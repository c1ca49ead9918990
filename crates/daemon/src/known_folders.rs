//! The data folders that this user's daemons have made.
//!
//! A data folder in the current folder cannot be trusted: a checkout can contain one, with an address and a token in
//! it, or with links. So each daemon writes a random number into its data folder, and a file with that name and the
//! folder's path next to the user's configuration. A folder is known if both match: a checkout cannot guess the
//! number, and a folder that replaced an earlier one does not have it.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use tempfile::NamedTempFile;

use crate::private_file::{self, Links, Others};

/// The file in a data folder that holds its number.
pub(crate) const ID: &str = "id";

/// The length of a number, in letters of hex.
const LETTERS: usize = 32;

/// The folder of the user for files from daemons to commands; `None` for a user without a home.
#[must_use]
pub(crate) fn of_user() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = || set("HOME").or_else(|| Some(User::from_uid(geteuid()).ok()??.dir));
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))?;
    Some(folder.join("trainyard"))
}

/// The list of data folders; without a place for it, no folder is known.
#[derive(Debug, Clone, Default)]
pub struct KnownFolders {
    list: Option<PathBuf>,
}

impl KnownFolders {
    #[must_use]
    pub fn of_this_user() -> Self {
        Self::at(of_user().map(|folder| folder.join("data-folders")))
    }

    /// Those in a folder.
    #[must_use]
    pub fn at(list: Option<PathBuf>) -> Self {
        Self { list }
    }

    /// Adds a data folder to the list.
    ///
    /// # Errors
    /// The list or the folder cannot be written, or the user has no place for a list.
    pub fn note(&self, folder: &Path) -> io::Result<()> {
        let list = self
            .list
            .as_ref()
            .ok_or_else(|| io::Error::other("the user has no home"))?;
        let folder = folder.canonicalize()?;
        let id = match number_of(&folder) {
            Ok(id) => id,
            Err(_) => {
                let mut bytes = [0; LETTERS / 2];
                getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
                let id = hex::encode(bytes);
                write(&folder.join(ID), 0o600, id.as_bytes())?;
                id
            }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(list)?;
        write(&list.join(id), 0o600, folder.as_os_str().as_bytes())
    }

    /// Whether a daemon of this user made the folder. A link to such a folder does not count.
    #[must_use]
    pub fn has(&self, folder: &Path) -> bool {
        let is_folder = folder.symlink_metadata().is_ok_and(|found| found.is_dir());
        is_folder && self.listed(folder).is_ok_and(|listed| listed)
    }

    /// All of them that still exist.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        let entries = self.list.as_ref().and_then(|list| list.read_dir().ok());
        let folders = entries.into_iter().flatten().filter_map(|entry| {
            let path = entry.ok()?.path();
            let owners = private_file::owners();
            let listed =
                private_file::read(&path, Others::Nothing, Links::Refused, &owners).ok()?;
            let folder = PathBuf::from(OsStr::from_bytes(listed.trim_end_matches('\n').as_bytes()));
            self.has(&folder).then_some(folder)
        });
        folders.collect()
    }

    fn listed(&self, folder: &Path) -> io::Result<bool> {
        let Some(list) = &self.list else {
            return Ok(false);
        };
        let folder = folder.canonicalize()?;
        let entry = list.join(number_of(&folder)?);
        let listed = private_file::read(
            &entry,
            Others::Nothing,
            Links::Refused,
            &private_file::owners(),
        )?;
        Ok(Path::new(OsStr::from_bytes(listed.trim_end_matches('\n').as_bytes())) == folder)
    }
}

fn number_of(folder: &Path) -> io::Result<String> {
    let text = private_file::read(
        &folder.join(ID),
        Others::Nothing,
        Links::Refused,
        &private_file::owners(),
    )?;
    let id = text.trim();
    if id.len() == LETTERS && id.bytes().all(|letter| letter.is_ascii_hexdigit()) {
        Ok(id.to_owned())
    } else {
        Err(io::Error::other("it is not the number of a data folder"))
    }
}

/// Writes a file atomically, and with `mode` from the start. Replaces whatever has the name, also a link itself.
pub(crate) fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Scene {
        place: tempfile::TempDir,
        known: KnownFolders,
    }

    impl Scene {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let known = KnownFolders::at(Some(place.path().join("config/data-folders")));
            Self { place, known }
        }

        fn folder(&self, name: &str) -> PathBuf {
            let path = self.place.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        }
    }

    #[test]
    fn a_noted_folder_is_known_and_keeps_its_number() {
        let scene = Scene::new();
        let folder = scene.folder("data");
        assert!(!scene.known.has(&folder));
        scene.known.note(&folder).unwrap();
        let id = number_of(&folder).unwrap();
        scene.known.note(&folder).unwrap();
        assert!(scene.known.has(&folder));
        assert_eq!(number_of(&folder).unwrap(), id);
    }

    #[test]
    fn a_folder_that_brings_a_number_along_is_not_known() {
        let scene = Scene::new();
        scene.known.note(&scene.folder("data")).unwrap();
        let other = scene.folder("checkout");
        write(&other.join(ID), 0o600, b"00000000000000000000000000000000").unwrap();
        assert!(!scene.known.has(&other));
        // Nor with a copy of the true number: the path differs.
        std::fs::copy(scene.place.path().join("data").join(ID), other.join(ID)).unwrap();
        assert!(!scene.known.has(&other));
        for odd in ["../data-folders/x", "", "/etc/passwd", &"g".repeat(32)] {
            write(&other.join(ID), 0o600, odd.as_bytes()).unwrap();
            assert!(!scene.known.has(&other), "{odd}");
        }
    }

    #[test]
    fn another_folder_in_the_place_of_a_known_one_is_not_known() {
        let scene = Scene::new();
        let folder = scene.folder("data");
        scene.known.note(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        scene.folder("data");
        assert!(!scene.known.has(&folder));
    }

    #[test]
    fn a_link_to_a_known_folder_is_not_known() {
        let scene = Scene::new();
        let folder = scene.folder("data");
        scene.known.note(&folder).unwrap();
        let link = scene.place.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(!scene.known.has(&link));
    }

    #[test]
    fn without_a_home_nothing_is_known() {
        let scene = Scene::new();
        let folder = scene.folder("data");
        let none = KnownFolders::at(None);
        assert!(none.note(&folder).is_err());
        assert!(!none.has(&folder));
    }
}
