//! The credentials of a remote: a user name and password over http, a key over ssh.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// The longest key and the longest list of known hosts, in bytes.
const LONGEST: usize = 64 << 10;

/// The beginning of an OpenSSH key, and of one without a passphrase.
const OPENSSH: &str = "b3BlbnNzaC1rZXktdjEAAAAA";
const UNLOCKED: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";

/// The credentials of a remote.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Over http or https.
    Login(Login),
    /// Over ssh.
    SshKey(SshKey),
}

/// A user name and a password. A token goes where the forge expects it: with most forges as the password, and the
/// user name does not matter then.
#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
}

/// A key, and the hosts that it may be used with.
#[derive(Debug, Clone)]
pub struct SshKey {
    /// The private key, as `ssh-keygen` writes it.
    pub key: SecretString,
    /// Keys of hosts, as `ssh-keyscan` writes them.
    pub known_hosts: String,
}

impl SshKey {
    /// Rejects a key that `ssh` cannot use without a prompt, and known hosts that name no host.
    ///
    /// # Errors
    /// The error and what to do about it.
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
                "the key has a passphrase, which the daemon cannot ask for; make a deploy key of its own with \
                 `ssh-keygen -t ed25519 -N '' -f deploy_key`"
                    .to_owned(),
            );
        }
        check_known_hosts(&self.known_hosts)
    }
}

/// Rejects lines that `ssh` would skip. They are not shown: one may be a private key that was pasted by mistake.
fn check_known_hosts(text: &str) -> Result<(), String> {
    let mut hosts = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let invalid = |why: &str| {
            Err(format!(
                "invalid known hosts, line {}: {why}; a line is `HOST KEY-TYPE KEY`, as `ssh-keyscan HOST` prints it",
                number + 1
            ))
        };
        let mut words = line.split_whitespace().peekable();
        if let Some(marker) = words.next_if(|word| word.starts_with('@'))
            && !["@cert-authority", "@revoked"].contains(&marker)
        {
            return invalid("its marker is neither @cert-authority nor @revoked");
        }
        let (Some(_), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else {
            return invalid("it has fewer than three words");
        };
        if !is_key(kind, key) {
            return invalid("it has no key after the host, or one that is cut or of another type");
        }
        hosts += 1;
    }
    match hosts {
        0 => Err("the known hosts name no host".to_owned()),
        _ => Ok(()),
    }
}

/// Whether this is a public key of this type: it begins with the type's name, after its length.
fn is_key(kind: &str, key: &str) -> bool {
    let Ok(bytes) = STANDARD.decode(key) else {
        return false;
    };
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let length = u32::from_be_bytes(*length) as usize;
    kind.len() == length && rest.len() > length && rest.starts_with(kind.as_bytes())
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

    const HOST: &str = "example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn an_invalid_line_of_known_hosts_is_refused_by_its_number_and_not_shown() {
        let (host, key) = HOST.split_once(' ').unwrap();
        let key_alone = key.split_once(' ').unwrap().1;
        for good in [
            format!("# a comment\n\n{HOST}\r\n{HOST} ada@host\n"),
            format!("@cert-authority *.example.org {key}"),
            format!("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {key}"),
        ] {
            assert_eq!(check_known_hosts(&good), Ok(()), "{good}");
        }
        for bad in [
            "hunter2",
            "example.org hunter2 hunter2",
            host,
            key,
            &format!("{host} ssh-rsa {key_alone}"),
            &format!("{host} ssh-ed25519 {}", &key_alone[..16]),
            &format!("@trusted {HOST}"),
        ] {
            let why = check_known_hosts(&format!("{HOST}\n# next\n{bad}\n")).unwrap_err();
            assert!(
                why.starts_with("invalid known hosts, line 3: "),
                "{bad}: {why}"
            );
            assert!(why.contains("`ssh-keyscan HOST`"), "{why}");
            assert!(
                !why.contains("hunter2") && !why.contains(key_alone),
                "{why}"
            );
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_is_refused_with_what_to_do() {
        let why = |key: &str, hosts: &str| {
            let key = SshKey {
                key: SecretString::from(key.to_owned()),
                known_hosts: hosts.to_owned(),
            };
            key.check().err().unwrap_or_default()
        };
        // In parts, so that it is not mistaken for a key.
        let kind = "PRIVATE KEY";
        let head = format!("-----BEGIN OPENSSH {kind}-----");
        let key = |body: &str| format!("{head}\n{body}\n-----END");
        let hosts = HOST;
        assert_eq!(why(&key(&format!("{UNLOCKED}AAAA")), hosts), "");
        assert!(why(&key(&format!("{OPENSSH}CmFlczI1Ni1jdHI")), hosts).contains("passphrase"));
        assert!(why("ssh-ed25519 AAAA ada", hosts).contains("public half"));
        assert!(why("hunter2", hosts).contains("not a private key"));
        assert!(why(&key(UNLOCKED), "# nothing\n").contains("no host"));
        assert!(why(&"x".repeat(LONGEST + 1), hosts).contains("bytes"));
    }
}
