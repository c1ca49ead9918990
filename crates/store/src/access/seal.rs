//! Sealing of secrets: AES-256-GCM under a key that is never in the database.
//!
//! A sealed value is bound to its place (`context`): moved to another row, it does not open. It is stored as nonce
//! (12 bytes), cipher text, tag.

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use secrecy::{ExposeSecret, SecretBox};

use crate::db::error::{Error, Result};

const NONCE: usize = 12;

pub struct SecretKey(SecretBox<[u8; 32]>);

impl SecretKey {
    /// Makes a key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    /// A new key and its bytes. The caller keeps them in the key file.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> std::io::Result<(Self, [u8; 32])> {
        let bytes = random()?;
        Ok((Self::from_bytes(bytes), bytes))
    }

    pub(crate) fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE] = random().map_err(|source| Error::Storage {
            path: "/dev/urandom".into(),
            source,
        })?;
        let payload = Payload {
            msg: plain,
            aad: context.as_bytes(),
        };
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| Error::conflict("a secret of this size cannot be sealed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// `WrongSecretKey` where the value was sealed with another key or for another place, or has changed since.
    pub(crate) fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let (nonce, content) = sealed
            .split_first_chunk::<NONCE>()
            .ok_or(Error::WrongSecretKey)?;
        let payload = Payload {
            msg: content,
            aad: context.as_bytes(),
        };
        self.cipher()
            .decrypt(&Nonce::from(*nonce), payload)
            .map_err(|_| Error::WrongSecretKey)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.0.expose_secret().into())
    }
}

impl Clone for SecretKey {
    fn clone(&self) -> Self {
        Self::from_bytes(*self.0.expose_secret())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

/// Fresh random bytes from the system.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_in_its_place() {
        let (key, _) = SecretKey::generate().unwrap();
        let sealed = key.seal("repo/A", b"hush").unwrap();
        assert_eq!(key.open("repo/A", &sealed).unwrap(), b"hush");
        assert!(key.open("repo/B", &sealed).is_err());
        let (other, _) = SecretKey::generate().unwrap();
        assert!(matches!(
            other.open("repo/A", &sealed),
            Err(Error::WrongSecretKey)
        ));
        assert!(!sealed.windows(4).any(|part| part == b"hush"));
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = SecretKey::from_bytes([7; 32]);
        assert_eq!(format!("{key:?}"), "SecretKey(hidden)");
    }
}
