//! The key that seals secrets: a file outside the database.
//!
//! Without it the sealed secrets cannot be read by anybody; with it and a dump of the database, by
//! anybody. So it is made once, never changed, and never printed.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use tempfile::NamedTempFile;
use thiserror::Error;
use tracing::warn;

/// The length of a key, in bytes.
pub const LENGTH: usize = 32;

/// A key file that was read or made.
#[derive(Debug)]
pub struct KeyFile {
    /// The key.
    pub key: SecretBox<[u8; LENGTH]>,
    /// Whether it was made just now: then tell the operator to keep a copy.
    pub is_new: bool,
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("the key file {} cannot be {doing}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `made`.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "the key file {} does not hold a key: it has to be 32 random bytes in hex or base64, as \
         `openssl rand -hex 32` makes them. Where secrets were sealed already, put the old file back",
        path.display()
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("no random bytes for a new key: {0}")]
    Randomness(getrandom::Error),
}

/// Reads the key, or makes the file with mode 0600 where it is missing. Its folder has to be there: a
/// place that is not mounted must not get a new key.
///
/// # Errors
/// The file cannot be read or made, or holds something else.
pub fn read_or_create(path: &Path) -> Result<KeyFile, KeyError> {
    match read(path) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(path)
        }
        read => Ok(KeyFile {
            key: read?,
            is_new: false,
        }),
    }
}

/// Reads the key.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<SecretBox<[u8; LENGTH]>, KeyError> {
    let fault = |source| KeyError::File {
        path: path.to_owned(),
        doing: "read",
        source,
    };
    let text = SecretString::from(
        std::fs::read_to_string(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::InvalidData => io::Error::other("it is no text"),
                _ => source,
            })
            .map_err(fault)?,
    );
    let mode = path.metadata().map_err(fault)?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!(path = %path.display(), "other users may read the key file; run `chmod 600` on it");
    }
    let text = text.expose_secret().trim();
    hex::decode(text)
        .ok()
        .or_else(|| BASE64.decode(text).ok())
        .and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok())
        .map(|bytes| SecretBox::new(Box::new(bytes)))
        .ok_or_else(|| KeyError::NotAKey {
            path: path.to_owned(),
        })
}

fn create(path: &Path) -> Result<KeyFile, KeyError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(KeyError::Randomness)?;
    let key = SecretBox::new(Box::new(bytes));
    match write(path, &hex::encode(key.expose_secret())) {
        Ok(()) => Ok(KeyFile { key, is_new: true }),
        // Another daemon was faster: its key is the one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(KeyFile {
            key: read(path)?,
            is_new: false,
        }),
        Err(source) => Err(KeyError::File {
            path: path.to_owned(),
            doing: "made",
            source,
        }),
    }
}

/// Complete on disk before it has its name: a crash leaves no half of a key.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    writeln!(file, "{text}")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_is_made_once_for_its_user_only() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("secret.key");
        let made = read_or_create(&path).unwrap();
        assert!(made.is_new);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let found = read_or_create(&path).unwrap();
        assert!(!found.is_new);
        assert_eq!(found.key.expose_secret(), made.key.expose_secret());
    }

    #[test]
    fn hex_and_base64_are_the_same_key() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        for text in [hex::encode([7; LENGTH]), BASE64.encode([7; LENGTH])] {
            std::fs::write(&path, format!("{text}\n")).unwrap();
            assert_eq!(
                read_or_create(&path).unwrap().key.expose_secret(),
                &[7; LENGTH]
            );
        }
    }

    #[test]
    fn something_else_is_refused_left_alone_and_not_shown() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        for text in ["canary", "", &hex::encode([7; 16])] {
            std::fs::write(&path, text).unwrap();
            let error = read_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("openssl rand -hex 32"), "{error}");
            assert!(!error.contains("canary"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn no_key_is_made_in_a_folder_that_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let error = read_or_create(&place.path().join("unmounted/key")).unwrap_err();
        assert!(error.to_string().contains("cannot be made"), "{error}");
    }
}
