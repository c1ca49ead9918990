//! What opens a remote: a user name and password over http, a key over ssh.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// The longest key and the longest list of known hosts, in bytes.
const LONGEST: usize = 64 << 10;

/// How a key of OpenSSH begins, and one that has no passphrase.
const OPENSSH: &str = "b3BlbnNzaC1rZXktdjEAAAAA";
const UNLOCKED: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";

/// What opens a remote.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Over http or https.
    Login(Login),
    /// Over ssh.
    SshKey(SshKey),
}

/// A user name and a password. A token goes where the forge wants it: with most, as the password, the user name then
/// being of no matter.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password or token.
    pub password: SecretString,
}

/// A key, and the hosts that it may be shown to.
#[derive(Debug, Clone)]
pub struct SshKey {
    /// The private key, as `ssh-keygen` writes it.
    pub key: SecretString,
    /// Keys of hosts, as `ssh-keyscan` writes them.
    pub known_hosts: String,
}

impl SshKey {
    /// Refuses a key that `ssh` cannot use without asking, and known hosts that name none.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn check(&self) -> Result<(), String> {
        let key = self.key.expose_secret();
        if key.len() > LONGEST || self.known_hosts.len() > LONGEST {
            return Err(format!(
                "a key and its known hosts may have {LONGEST} bytes each"
            ));
        }
        let mut lines = key.trim().lines();
        let head = lines.next().unwrap_or_default();
        if !(head.starts_with("-----BEGIN ") && head.contains("PRIVATE KEY")) {
            let why = match head.split_whitespace().next() {
                Some(word) if word.starts_with("ssh-") || word.starts_with("ecdsa-") => {
                    "that is the public half of a key: the private one is the file without .pub"
                }
                _ => "that is not a private key as `ssh-keygen -t ed25519` makes one",
            };
            return Err(why.to_owned());
        }
        let body = lines.next().unwrap_or_default();
        let is_locked =
            key.contains("ENCRYPTED") || (body.starts_with(OPENSSH) && !body.starts_with(UNLOCKED));
        if is_locked {
            return Err(
                "the key has a passphrase, for which nobody can be asked; make a deploy key of its own with \
                 `ssh-keygen -t ed25519 -N '' -f deploy_key`"
                    .to_owned(),
            );
        }
        let mut hosts = self.known_hosts.lines().map(str::trim);
        if !hosts.any(|line| !line.is_empty() && !line.starts_with('#')) {
            return Err("the known hosts name no host".to_owned());
        }
        Ok(())
    }
}

/// Credentials in the clear, on their way to git's process.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Shown {
    Login(String, String),
    SshKey(String, String),
}

impl From<&Credentials> for Shown {
    fn from(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Login(login) => Self::Login(
                login.username.clone(),
                login.password.expose_secret().to_owned(),
            ),
            Credentials::SshKey(key) => {
                Self::SshKey(key.key.expose_secret().to_owned(), key.known_hosts.clone())
            }
        }
    }
}

impl From<Shown> for Credentials {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Login(username, password) => Self::Login(Login {
                username,
                password: SecretString::from(password),
            }),
            Shown::SshKey(key, known_hosts) => Self::SshKey(SshKey {
                key: SecretString::from(key),
                known_hosts,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_used_is_refused_with_what_to_do() {
        let why = |key: &str, hosts: &str| {
            let key = SshKey {
                key: SecretString::from(key.to_owned()),
                known_hosts: hosts.to_owned(),
            };
            key.check().err().unwrap_or_default()
        };
        // In parts, so that nobody takes it for a key.
        let kind = "PRIVATE KEY";
        let head = format!("-----BEGIN OPENSSH {kind}-----");
        let key = |body: &str| format!("{head}\n{body}\n-----END");
        let hosts = "example.org ssh-ed25519 AAAA";
        assert_eq!(why(&key(&format!("{UNLOCKED}AAAA")), hosts), "");
        assert!(why(&key(&format!("{OPENSSH}CmFlczI1Ni1jdHI")), hosts).contains("passphrase"));
        assert!(why("ssh-ed25519 AAAA ada", hosts).contains("public half"));
        assert!(why("hunter2", hosts).contains("not a private key"));
        assert!(why(&key(UNLOCKED), "# nothing\n").contains("no host"));
        assert!(why(&"x".repeat(LONGEST + 1), hosts).contains("bytes"));
    }
}
