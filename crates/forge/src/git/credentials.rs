//! User name and password for a remote.

use secrecy::SecretString;

/// What opens a remote over http or https. A token goes where the forge wants it: with most, as the
/// password, the user name then being of no matter.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password or token.
    pub password: SecretString,
}
