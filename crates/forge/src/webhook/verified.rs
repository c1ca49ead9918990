//! The proof that a delivery was verified. In a module of its own, so that nothing else can make one.

use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};

use super::{Delivery, Malformed, Provider, github};

/// A delivery that is not signed as it must be. There is one such answer for every reason, so that
/// nobody learns which part of a forgery was wrong, or whether a repo exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not signed with this repo's webhook secret")]
pub struct Rejected;

/// A delivery whose signature holds; the only way to parse one.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a> {
    provider: Provider,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl<'a> Verified<'a> {
    pub(super) fn check(
        provider: Provider,
        secret: &SecretString,
        headers: &'a HeaderMap,
        body: &'a [u8],
    ) -> Result<Self, Rejected> {
        // Anybody can sign with an empty secret.
        if secret.expose_secret().is_empty() {
            return Err(Rejected);
        }
        let is_signed = match provider {
            Provider::GitHub => github::is_signed(secret, headers, body),
        };
        if is_signed {
            Ok(Self {
                provider,
                headers,
                body,
            })
        } else {
            Err(Rejected)
        }
    }

    /// Reads what the delivery tells.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(self) -> Result<Delivery, Malformed> {
        match self.provider {
            Provider::GitHub => github::parse(self.headers, self.body),
        }
    }
}
