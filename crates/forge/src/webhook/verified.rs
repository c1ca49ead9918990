//! The proof that a delivery was verified. In a module of its own, so that nothing else can make one.

use hmac::{Hmac, Mac};
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::{Delivery, Malformed, Provider, github};

/// A delivery without a valid signature. Every reason gets this one answer, so that it reveals neither which part of
/// a forgery was wrong nor whether a repo exists.
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
        let mut signed = provider.claim(headers).ok_or(Rejected)?.signed_with(secret);
        signed.mac.update(body);
        if signed.holds() {
            Ok(Self {
                provider,
                headers,
                body,
            })
        } else {
            Err(Rejected)
        }
    }

    /// Reads the content of the delivery.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(self) -> Result<Delivery, Malformed> {
        match self.provider {
            Provider::GitHub => github::parse(self.headers, self.body),
        }
    }
}

/// A signature that was read from headers and has not been compared with a body yet.
#[derive(Debug, Clone)]
pub struct SignatureClaim {
    provider: Provider,
    signature: [u8; 32],
}

impl SignatureClaim {
    pub(super) const fn new(provider: Provider, signature: [u8; 32]) -> Self {
        Self {
            provider,
            signature,
        }
    }

    /// Begins to read the body that claims to be signed with `secret`.
    #[must_use]
    pub fn signed_with(self, secret: &SecretString) -> Signed {
        Signed {
            mac: github::keyed(secret),
            claim: self,
            // Anyone can sign with an empty secret.
            can_hold: !secret.expose_secret().is_empty(),
            body: Vec::new(),
        }
    }
}

/// A body that claims to be signed: hashed as it comes, and readable only once the signature holds.
#[derive(Debug)]
pub struct Signed {
    claim: SignatureClaim,
    mac: Hmac<Sha256>,
    can_hold: bool,
    body: Vec<u8>,
}

impl Signed {
    /// Takes the next piece of the body.
    pub fn take(&mut self, piece: &[u8]) {
        self.mac.update(piece);
        self.body.extend_from_slice(piece);
    }

    /// Reserves room for this many more bytes of the body.
    pub fn reserve(&mut self, more: usize) {
        self.body.reserve_exact(more);
    }

    /// How much of the body has come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether nothing has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// How much memory is there for the body.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.body.capacity()
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn holds(&self) -> bool {
        let fits = self.mac.clone().verify_slice(&self.claim.signature).is_ok();
        fits && self.can_hold
    }

    /// Compares the signature with the whole body, in constant time.
    ///
    /// # Errors
    /// [`Rejected`], whatever the reason.
    pub fn verify<'a>(&'a self, headers: &'a HeaderMap) -> Result<Verified<'a>, Rejected> {
        if self.holds() {
            Ok(Verified {
                provider: self.claim.provider,
                headers,
                body: &self.body,
            })
        } else {
            Err(Rejected)
        }
    }
}
