//! The key that encrypts secrets: a file outside the database.
//!
//! Without the key, the encrypted secrets are lost; with the key and a dump of the database, anyone can read them. So
//! it is made once, never changed, and never printed. A key file that other users may read, or whose key is not
//! random, is refused, since it would not protect the secrets.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::private_file::{self, Links, Others};

/// The length of a key, in bytes.
pub const LENGTH: usize = 32;

/// A key file that was read or made.
#[derive(Debug)]
pub struct KeyFile {
    pub key: SecretBox<[u8; LENGTH]>,
    /// Whether it was made just now: then the daemon asks the operator to keep a copy.
    pub is_new: bool,
}

/// The reason why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("the key file {} cannot be {doing}: {source}", path.display())]
    File {
        path: PathBuf,
        /// `read` or `made`.
        doing: &'static str,
        source: io::Error,
    },
    /// The file does not contain a key.
    #[error(
        "the key file {} does not contain a key: it has to be 32 random bytes in hex or base64, as \
         `openssl rand -hex 32` makes them. If secrets were encrypted already, restore the old file",
        path.display()
    )]
    NotAKey { path: PathBuf },
    /// The key could be guessed.
    #[error(
        "the key file {} does not contain a random key: {pattern}. Make one with `openssl rand -hex 32`, and set the \
         secrets, webhook secrets and passwords that were encrypted with this one again",
        path.display()
    )]
    Weak {
        path: PathBuf,
        pattern: &'static str,
    },
    /// The database was used with a key, and its file is missing.
    #[error(
        "the key file {} is missing, and the secrets in the database were encrypted with its key: no new key was made; \
         restore the file, or name it with --secret-key-file",
        path.display()
    )]
    Gone { path: PathBuf },
    /// The system has no randomness.
    #[error("could not get random bytes for a new key: {0}")]
    Randomness(getrandom::Error),
}

/// Reads the key, or makes the file with mode 0600 if it is missing. Its folder has to exist: otherwise a start while
/// a volume is not mounted would make a new key.
///
/// # Errors
/// The file cannot be read or made, or does not contain a valid key.
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
/// The file cannot be read, or does not contain a valid key.
pub fn read(path: &Path) -> Result<SecretBox<[u8; LENGTH]>, KeyError> {
    let fault = |source| KeyError::File {
        path: path.to_owned(),
        doing: "read",
        source,
    };
    let text = private_file::read(
        path,
        Others::Nothing,
        Links::Followed,
        &private_file::owners(),
    );
    let text = SecretString::from(text.map_err(fault)?);
    let text = text.expose_secret().trim();
    let key = hex::decode(text)
        .ok()
        .or_else(|| BASE64.decode(text).ok())
        .and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok())
        .map(|bytes| SecretBox::new(Box::new(bytes)))
        .ok_or_else(|| KeyError::NotAKey {
            path: path.to_owned(),
        })?;
    match pattern_of(key.expose_secret()) {
        None => Ok(key),
        Some(pattern) => Err(KeyError::Weak {
            path: path.to_owned(),
            pattern,
        }),
    }
}

/// The pattern that shows that a key is not random. At most one in 10^13 random keys has such a pattern.
fn pattern_of(key: &[u8; LENGTH]) -> Option<&'static str> {
    let step = key[1].wrapping_sub(key[0]);
    let (first, second) = key.split_at(LENGTH / 2);
    let distinct: BTreeSet<&u8> = key.iter().collect();
    if distinct.len() == 1 {
        Some("all of its bytes are the same")
    } else if key
        .windows(2)
        .all(|two| two[1].wrapping_sub(two[0]) == step)
    {
        Some("its bytes count up or down")
    } else if first == second {
        Some("its halves are the same")
    } else if distinct.len() < 12 {
        Some("it has hardly any different bytes")
    } else if key.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        Some("it is text")
    } else {
        None
    }
}

fn create(path: &Path) -> Result<KeyFile, KeyError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(KeyError::Randomness)?;
    let key = SecretBox::new(Box::new(bytes));
    match write(path, &hex::encode(key.expose_secret())) {
        Ok(()) => Ok(KeyFile { key, is_new: true }),
        // Another daemon was faster: its key is used.
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

/// The file is complete on disk before it gets its name, so that a crash leaves no incomplete key.
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
    use std::os::unix::fs::PermissionsExt;

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

    /// Bytes that look random.
    fn good() -> [u8; LENGTH] {
        std::array::from_fn(|at| (at * at * 7 + 31) as u8)
    }

    fn write_key(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn hex_and_base64_are_the_same_key() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        for text in [hex::encode(good()), BASE64.encode(good())] {
            write_key(&path, &text, 0o600);
            assert_eq!(read_or_create(&path).unwrap().key.expose_secret(), &good());
        }
    }

    #[test]
    fn class_06_a_key_that_anybody_could_guess_is_refused_and_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        let counted: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let weak = [
            "0".repeat(64),
            "f".repeat(64),
            BASE64.encode([0; LENGTH]),
            hex::encode(counted),
            hex::encode(down),
            "0123456789abcdef".repeat(4),
            "00112233445566778899aabbccddeeff".repeat(2),
            BASE64.encode("changemechangemechangemechangeme"),
            BASE64.encode("correct horse battery staple 123"),
            hex::encode("This is Our Very Secret Key 2026"),
        ];
        for text in weak {
            write_key(&path, &text, 0o600);
            let error = read_or_create(&path).unwrap_err().to_string();
            assert!(
                error.contains("not contain a random key")
                    && error.contains("openssl rand -hex 32"),
                "{text}: {error}"
            );
            assert!(!error.contains(&text), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), text);
        }
    }

    #[test]
    fn class_06_each_new_key_is_another_one() {
        let place = tempfile::tempdir().unwrap();
        let keys: BTreeSet<[u8; LENGTH]> = (0..8)
            .map(|number| place.path().join(number.to_string()))
            .map(|path| *read_or_create(&path).unwrap().key.expose_secret())
            .collect();
        assert_eq!(keys.len(), 8);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        for mode in [0o644, 0o640, 0o604, 0o660] {
            write_key(&path, &hex::encode(good()), mode);
            let error = read_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn something_else_is_refused_left_alone_and_not_shown() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        for text in ["canary", "", &hex::encode(&good()[..16])] {
            write_key(&path, text, 0o600);
            let error = read_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("openssl rand -hex 32"), "{error}");
            assert!(!error.contains("canary"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), text);
        }
    }

    #[test]
    fn no_key_is_made_in_a_folder_that_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let error = read_or_create(&place.path().join("unmounted/key")).unwrap_err();
        assert!(error.to_string().contains("cannot be made"), "{error}");
    }
}
