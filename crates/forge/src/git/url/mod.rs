//! Addresses of remotes: which are followed, in the one form that libgit2 gets.
//!
//! An address is parsed here, strictly, and rebuilt; libgit2 only ever sees the result. So it cannot read an
//! address differently from the check: no transport but ours, no `ext::`, no option, no configuration, no
//! credentials in the address.
//!
//! [`super::address`] decides which machines it may lead to.

mod read;
mod rules;

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

pub use self::rules::UrlRules;

use self::read::{read, redacted};
use super::{Error, Login};
use crate::checkout;

const SSH_PORT: u16 = 22;

/// An address that can be followed. Displayed without credentials.
#[derive(Debug, Clone)]
pub struct RemoteUrl {
    url: Url,
    login: Option<Login>,
}

impl RemoteUrl {
    /// Reads an `https://`, `http://`, `ssh://` or `file://` URL, `git@host:path`, or an absolute path.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`], with what to write instead if known.
    pub fn parse(text: &str, rules: &UrlRules) -> Result<Self, Error> {
        let text = text.trim();
        read(text, rules).map_err(|why| Error::InvalidUrl {
            url: redacted(text),
            why,
        })
    }

    /// The user and password in the address: they belong in a secret store, not in a URL column.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Whether it is fetched over ssh.
    #[must_use]
    pub fn is_ssh(&self) -> bool {
        self.url.scheme() == "ssh"
    }

    /// Rejects a password where a key belongs, a key where a password belongs, and a password that would be sent to
    /// this remote without encryption.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`], with what to do.
    pub fn refuse_credentials(
        &self,
        has_login: bool,
        has_key: bool,
        rules: &UrlRules,
    ) -> Result<(), Error> {
        let refused = |why: &str| {
            Err(Error::InvalidUrl {
                url: self.to_string(),
                why: why.to_owned(),
            })
        };
        if has_login && self.is_ssh() {
            return refused("ssh takes a key, not a password: use --ssh-key and --known-hosts");
        }
        if has_key && !self.is_ssh() {
            return refused(
                "an ssh key is for ssh:// addresses; use --username and --password-stdin",
            );
        }
        if has_login {
            self.refuse_open_password(rules)?;
        }
        Ok(())
    }

    /// The address without credentials.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Rejects a password that would be sent to this remote without encryption.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`], with what to do.
    pub fn refuse_open_password(&self, rules: &UrlRules) -> Result<(), Error> {
        if self.url.scheme() != "http" || is_here(&self.url) || rules.allow_open_passwords {
            return Ok(());
        }
        Err(Error::InvalidUrl {
            url: self.to_string(),
            why: "its password would be sent without encryption, for everybody on the way to read; use https, or set \
                  `git.open_passwords = true` in the configuration"
                .to_owned(),
        })
    }

    /// The address of contents that a server of Git LFS named, without its secret parts. It has to be as encrypted as
    /// that server, except on this machine.
    pub(super) fn of_content(
        place: &Url,
        as_open_as: &str,
        rules: &UrlRules,
    ) -> Result<Self, Error> {
        let mut url = place.clone();
        url.set_query(None);
        url.set_fragment(None);
        let checked = match url.scheme() {
            "https" => Ok(()),
            "http" if as_open_as == "http" || is_here(&url) => Ok(()),
            other => Err(format!("contents of Git LFS are not fetched over {other}")),
        };
        checked
            .and_then(|()| rules.admit_host(&url.host().ok_or("it names no host")?))
            .map_err(|why| Error::InvalidUrl {
                url: redacted(url.as_str()),
                why,
            })?;
        // Neither fails for a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, login: None })
    }

    /// The address of the Git LFS batch API, for a remote over http.
    pub(super) fn lfs_batch(&self) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        url.set_path(&format!("{path}.git/info/lfs/objects/batch"));
        url
    }

    /// The server as `host:port`; `None` for this machine's disk.
    pub(super) fn server(&self) -> Option<String> {
        let port = match self.is_ssh() {
            true => self.ssh_port(),
            false => self.url.port_or_known_default()?,
        };
        Some(format!("{}:{port}", self.url.host_str()?))
    }

    /// The host, with IP addresses parsed: for ssh, the `url` crate has them as text.
    #[must_use]
    pub fn host(&self) -> Option<Host<String>> {
        Host::parse(self.url.host_str()?).ok()
    }

    /// The host in the form of known hosts files.
    #[must_use]
    pub fn known_host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match self.ssh_port() {
            SSH_PORT => host.to_owned(),
            port => format!("[{host}]:{port}"),
        }
    }

    /// The port, of a remote over ssh.
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        self.url.port().unwrap_or(SSH_PORT)
    }

    pub(super) fn ssh_user(&self) -> &str {
        self.url.username()
    }

    /// The path that the remote gets: relative to the user's home if it begins so.
    pub(super) fn ssh_path(&self) -> String {
        let path = percent_decode_str(self.url.path()).decode_utf8_lossy();
        match path.strip_prefix("/~/") {
            Some(below) => below.to_owned(),
            None if path.starts_with("/~") => path[1..].to_owned(),
            None => path.into_owned(),
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The branch that is checked out there, of a checkout on this machine's disk.
    #[must_use]
    pub fn checked_out_branch(&self) -> Option<String> {
        checkout::branch(&self.path()?)
    }

    /// Why there is no repository there, of an address on this machine's disk.
    #[must_use]
    pub fn missing_on_disk(&self) -> Option<String> {
        let path = self.path()?;
        let shown = path.display();
        if !path.is_dir() {
            return Some(format!("{shown} is not a directory"));
        }
        (!checkout::is_repository(&path)).then(|| {
            format!("{shown} is not a git repository; run `git init` there first, or give another folder")
        })
    }

    /// The folder, of a remote on this machine's disk.
    pub(super) fn path(&self) -> Option<std::path::PathBuf> {
        (self.url.scheme() == "file")
            .then(|| self.url.to_file_path().ok())
            .flatten()
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a URL leads to this very machine, as far as its host shows.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => true,
    }
}

#[cfg(test)]
mod tests;
