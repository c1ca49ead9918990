//! The credentials of a repo, as requests give them.

use secrecy::{ExposeSecret, SecretString};
use trainyard_api::ChangeRepo;
use trainyard_forge::{RemoteUrl, SshKey, UrlRules};
use trainyard_store::RepoCredentials;

use crate::repos::either;
use crate::{AppError, Result};

/// The credentials of a request.
pub(crate) struct GivenCredentials {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) ssh_key: Option<String>,
    pub(crate) known_hosts: Option<String>,
}

impl GivenCredentials {
    fn is_any(&self) -> bool {
        self.username.is_some()
            || self.password.is_some()
            || self.ssh_key.is_some()
            || self.known_hosts.is_some()
    }

    /// Completes partly given credentials with the parts of the same kind that the repo has already.
    fn or_kept(mut self, kept: RepoCredentials) -> Self {
        let login = self.username.is_some() || self.password.is_some();
        let ssh = self.ssh_key.is_some() || self.known_hosts.is_some();
        match kept {
            RepoCredentials::Login { username, password } if login && !ssh => {
                self.username.get_or_insert(username);
                self.password
                    .get_or_insert_with(|| password.expose_secret().to_owned());
            }
            RepoCredentials::SshKey { key, known_hosts } if ssh && !login => {
                self.ssh_key
                    .get_or_insert_with(|| key.expose_secret().to_owned());
                self.known_hosts.get_or_insert(known_hosts);
            }
            RepoCredentials::Login { .. } | RepoCredentials::SshKey { .. } => {}
        }
        self
    }

    /// The credentials for the repo at `url`; a login in the address is used where none is given.
    pub(crate) fn checked(
        self,
        url: &RemoteUrl,
        rules: &UrlRules,
    ) -> Result<Option<RepoCredentials>> {
        if self.username.is_some() && self.password.is_none() {
            return Err(AppError::invalid("a user name needs a password or token"));
        }
        let login = match self.password {
            Some(password) => Some(RepoCredentials::Login {
                username: self.username.unwrap_or_else(|| "git".to_owned()),
                password: SecretString::from(password),
            }),
            None => url.login().map(|login| RepoCredentials::Login {
                username: login.username.clone(),
                password: login.password.clone(),
            }),
        };
        url.refuse_credentials(login.is_some(), self.ssh_key.is_some(), rules)?;
        if !url.is_ssh() {
            return Ok(login);
        }
        let Some(key) = self.ssh_key else {
            return Err(AppError::invalid("a repo over ssh needs a key").help(
                "`ssh-keygen -t ed25519 -N '' -f deploy_key` makes one; give deploy_key.pub to the forge as a deploy \
                 key that may only read, and give the private one with --ssh-key deploy_key",
            ));
        };
        let Some(known_hosts) = self.known_hosts else {
            let host = url.host().map(|host| host.to_string()).unwrap_or_default();
            let port = url.ssh_port();
            return Err(AppError::invalid("a repo over ssh needs the keys of its host").help(format!(
                "`ssh-keyscan -p {port} {host} > known_hosts` asks for them; compare them with those that the forge \
                 publishes, and give them with --known-hosts known_hosts"
            )));
        };
        let key = SshKey {
            key: SecretString::from(key),
            known_hosts,
        };
        key.check().map_err(AppError::invalid)?;
        Ok(Some(RepoCredentials::SshKey {
            key: key.key,
            known_hosts: key.known_hosts,
        }))
    }
}

/// The change to a repo's credentials. Stored credentials are never sent to another host than they were given for,
/// not even a part of them that completes newly given ones.
pub(crate) fn changed(
    asked: &ChangeRepo,
    url: Option<&RemoteUrl>,
    now: &str,
    kept: Option<RepoCredentials>,
    rules: &UrlRules,
) -> Result<Option<Option<RepoCredentials>>> {
    let given = GivenCredentials {
        username: asked.username.clone(),
        password: asked.password.clone(),
        ssh_key: asked.ssh_key.clone(),
        known_hosts: asked.known_hosts.clone(),
    };
    let is_given = given.is_any() || url.is_some_and(|url| url.login().is_some());
    if is_given && asked.no_credentials {
        return Err(either("credentials", "no_credentials"));
    }
    let stays = url.is_none_or(|url| origin(url.as_str()) == origin(now));
    if !is_given && !asked.no_credentials && kept.is_some() {
        if stays {
            return Ok(None);
        }
        return Err(AppError::invalid(
            "the new address is at another host, which does not get the credentials of the old one",
        )
        .help(
            "give credentials for it (--password-stdin, or --ssh-key and --known-hosts), or --no-credentials",
        ));
    }
    let given = match kept {
        Some(kept) if stays && given.is_any() => given.or_kept(kept),
        _ => given,
    };
    let checked = match url {
        Some(url) => given.checked(url, rules)?,
        None if is_given || asked.no_credentials => {
            given.checked(&RemoteUrl::parse(now, rules)?, rules)?
        }
        None => return Ok(None),
    };
    Ok((is_given || asked.no_credentials).then_some(checked))
}

/// Scheme, host and port of an address, normalized as stored addresses are.
fn origin(url: &str) -> (&str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    (scheme, host)
}
