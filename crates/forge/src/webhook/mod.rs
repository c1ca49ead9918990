//! Webhook deliveries: verifies that they come from the forge, and reads them.
//!
//! Each forge has one file with the same three functions: `signature` makes what the forge would send, `is_signed`
//! compares, `parse` reads. A delivery that was not verified cannot be parsed, since only [`Provider::verify`] makes
//! the [`Verified`] that parsing takes.
//!
//! A signature covers the body alone. A delivery's id is a header, so an attacker who has intercepted one delivery
//! can send it again under another id. This is why a push is only a hint to fetch.

mod github;
mod verified;

pub use verified::{Rejected, SignatureClaim, Signed, Verified};

use http::HeaderMap;
use secrecy::SecretString;

use crate::git::CommitSha;

/// A forge that sends webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// GitHub, and GitHub Enterprise Server.
    GitHub,
}

impl Provider {
    /// The provider of a path `/hooks/{provider}/{repo}`.
    #[must_use]
    pub fn from_path(word: &str) -> Option<Self> {
        match word {
            "github" => Some(Self::GitHub),
            _ => None,
        }
    }

    /// The provider's word, in paths and as stored.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::GitHub => "github",
        }
    }

    /// The claims in a delivery's headers, before its body is read. `None` if no body could match them: it has no
    /// signature, two, or one that is not written as this forge writes it.
    #[must_use]
    pub fn claim(self, headers: &HeaderMap) -> Option<SignatureClaim> {
        let signature = match self {
            Self::GitHub => github::claimed(headers)?,
        };
        Some(SignatureClaim::new(self, signature))
    }

    /// Checks that a delivery was signed with `secret`, over the body as it was received, in constant time. For a
    /// repo that does not exist, call this all the same, with a random secret: then neither the answer nor its time
    /// reveals anything.
    ///
    /// # Errors
    /// [`Rejected`], whatever the reason.
    pub fn verify<'a>(
        self,
        secret: &SecretString,
        headers: &'a HeaderMap,
        body: &'a [u8],
    ) -> Result<Verified<'a>, Rejected> {
        Verified::check(self, secret, headers, body)
    }

    /// The header, name and value, with which this forge would sign a body.
    #[must_use]
    pub fn sign(self, secret: &SecretString, body: &[u8]) -> (&'static str, String) {
        match self {
            Self::GitHub => (github::SIGNATURE, github::signature(secret, body)),
        }
    }
}

/// The content of a delivery. All texts come from outside, and are bounded and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The forge's id for this delivery; a second one with the same id is the same delivery.
    pub id: String,
    pub event: WebhookEvent,
}

/// The event, by a forge's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookEvent {
    /// A branch or tag was made, moved or deleted.
    Push(Push),
    /// The hook was set up.
    Ping,
    /// An event that Trainyard does not use, by the forge's name for it.
    Other(String),
}

/// A branch or tag that was made, moved or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    pub reference: Pushed,
    /// Where it pointed; `None` where it is new.
    pub before: Option<CommitSha>,
    /// Where it points; `None` where it was deleted. For an annotated tag, this is the tag's own hash.
    pub after: Option<CommitSha>,
    /// The user who pushed, by the forge's name.
    pub pusher: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// A branch, by its name without `refs/heads/`.
    Branch(String),
    /// A tag, by its name without `refs/tags/`.
    Tag(String),
}

/// A delivery with a valid signature whose content does not match its headers. It is the forge's mistake or a change
/// on its side, and sending it again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the delivery cannot be read: {why}")]
pub struct Malformed {
    /// The reason.
    pub why: String,
}

impl Malformed {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}
