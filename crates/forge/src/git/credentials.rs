//! User name and password for a remote, and how often and to whom they are shown.

use std::cell::Cell;

use git2::{Cred, CredentialType, ErrorClass, ErrorCode};
use secrecy::{ExposeSecret, SecretString};

use super::RemoteUrl;

/// What opens a remote over http or https. A token goes where the forge wants it: with most, as the
/// password, the user name then being of no matter.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password or token.
    pub password: SecretString,
}

/// Answers libgit2's question for credentials during one request.
///
/// libgit2 asks again when an answer was refused, fifteen times over, which locks accounts; here the
/// second question ends the request. And it asks on behalf of wherever a redirect has led; here only
/// the remote's own host is told.
pub(super) struct Answers<'a> {
    url: &'a RemoteUrl,
    credentials: Option<&'a Credentials>,
    asked: Cell<bool>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(url: &'a RemoteUrl, credentials: Option<&'a Credentials>) -> Self {
        Self {
            url,
            credentials,
            asked: Cell::new(false),
        }
    }

    pub(super) fn answer(&self, asker: &str, kinds: CredentialType) -> Result<Cred, git2::Error> {
        let Some(credentials) = self.credentials else {
            return Err(refusal(
                "it asks for a user name and password, and none are set",
            ));
        };
        if !self.url.covers(asker) {
            return Err(refusal(
                "it redirects to another place, which is not told the password",
            ));
        }
        if !kinds.contains(CredentialType::USER_PASS_PLAINTEXT) {
            return Err(refusal("it takes no user name and password"));
        }
        if self.asked.replace(true) {
            return Err(refusal("the user name or password is not accepted"));
        }
        Cred::userpass_plaintext(&credentials.username, credentials.password.expose_secret())
    }
}

fn refusal(why: &str) -> git2::Error {
    git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, why)
}
