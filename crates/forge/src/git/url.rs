//! Addresses of remotes: which are followed, in the one form that libgit2 is given.
//!
//! An address is parsed here, strictly, and written anew; libgit2 only ever sees the result. So it
//! cannot read an address in another way than the check did: no transport but ours, no `ext::`, no
//! option, no configuration, no credentials in the address.
//!
//! Which machines it may lead to is judged in [`super::address`].

use std::fmt;
use std::path::Path;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::{Error, Login};
use crate::one_line::one_line;

/// The port of ssh.
const SSH_PORT: u16 = 22;

/// The longest address, in bytes.
const LONGEST: usize = 2048;

/// What an operator allows addresses to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UrlRules {
    /// Whether repositories on this machine's own disk may be followed, as `file:///srv/model.git`
    /// or `/srv/model.git`. Off by default: whoever may add a repo could read any repository that
    /// the daemon's user can.
    pub allow_file_urls: bool,
    /// Whether remotes may be on this machine: what only it may see is readable then.
    pub allow_loopback: bool,
    /// Whether remotes may be in private networks.
    pub allow_private: bool,
    /// Hosts that may be followed wherever they are.
    pub hosts: Vec<String>,
    /// Whether a password may be sent without encryption. To this machine it always may.
    pub allow_open_passwords: bool,
}

/// An address that can be followed. Shows itself without credentials.
#[derive(Debug, Clone)]
pub struct RemoteUrl {
    url: Url,
    login: Option<Login>,
}

impl RemoteUrl {
    /// Reads an `https://`, `http://`, `ssh://` or `file://` URL, `git@host:path`, or an absolute path.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`], saying what to write instead where that is known.
    pub fn parse(text: &str, rules: &UrlRules) -> Result<Self, Error> {
        let text = text.trim();
        read(text, rules).map_err(|why| Error::InvalidUrl {
            url: redacted(text),
            why,
        })
    }

    /// The user and password that the address carried: they belong into a secret store, not a URL column.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Whether it is fetched over ssh.
    #[must_use]
    pub fn is_ssh(&self) -> bool {
        self.url.scheme() == "ssh"
    }

    /// Refuses a password where a key belongs, a key where a password belongs, and a password for this remote where
    /// everybody on the way would read it.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`], saying what to do.
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
            return refused("ssh takes a key, no password: use --ssh-key and --known-hosts");
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

    /// Refuses a password for this remote where everybody on the way would read it.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`], saying what to do.
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

    /// Where a server of Git LFS says that contents are, without what of it may be secret. It is as open or as closed
    /// to readers on the way as that server is, but for this machine.
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

    /// Where contents of Git LFS are asked for, of a remote over http.
    pub(super) fn lfs_batch(&self) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        url.set_path(&format!("{path}.git/info/lfs/objects/batch"));
        url
    }

    /// The server that has it, as `host:port`; `None` for this machine's disk.
    pub(super) fn server(&self) -> Option<String> {
        let port = match self.is_ssh() {
            true => self.ssh_port(),
            false => self.url.port_or_known_default()?,
        };
        Some(format!("{}:{port}", self.url.host_str()?))
    }

    /// The host, an IP address known as one: for ssh the `url` crate has it as text.
    #[must_use]
    pub fn host(&self) -> Option<Host<String>> {
        Host::parse(self.url.host_str()?).ok()
    }

    /// The host as files of known hosts have it.
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

    /// The path as the remote is asked for it: below the user's home where it begins so.
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

fn read(text: &str, rules: &UrlRules) -> Result<RemoteUrl, String> {
    refuse_what_is_no_address(text)?;
    if text.starts_with('/') {
        let url = Url::from_file_path(Path::new(text)).map_err(|()| "not an absolute path")?;
        return file(url, rules);
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return without_scheme(text, rules);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "https" | "http" => web(parse(text)?, rules),
        "file" => file(parse(text)?, rules),
        "ssh" => ssh(parse(text)?, rules),
        "git+ssh" | "ssh+git" => Err("write `ssh://`".to_owned()),
        "git" => Err("git:// is neither encrypted nor authenticated; use its https URL".to_owned()),
        other => Err(format!("{other:?} is not supported; use an https URL")),
    }
}

/// Whether a URL leads to this very machine, as far as its host tells.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => true,
    }
}

fn refuse_what_is_no_address(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    if text.starts_with('-') {
        return Err("it starts with a dash, as an option does".to_owned());
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err("it holds a backslash or a control character".to_owned());
    }
    let scheme = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || "+.-".contains(c)))
        .next();
    if scheme.is_some_and(|scheme| text[scheme.len()..].starts_with("::")) {
        return Err("remote helpers, such as `ext::`, are not supported".to_owned());
    }
    Ok(())
}

fn without_scheme(text: &str, rules: &UrlRules) -> Result<RemoteUrl, String> {
    match text.split_once(':') {
        // `git@host:team/model.git`, the scp form. A slash first makes it a path.
        Some((host, path)) if host.contains('@') && !host.contains('/') => {
            // A relative path is below the home of the user, which ssh:// writes as `~`.
            let home = if path.starts_with('/') { "" } else { "/~/" };
            let url =
                Url::parse(&format!("ssh://{host}{home}")).map_err(|error| error.to_string())?;
            let mut url = url;
            url.set_path(&format!("{home}{path}"));
            ssh(url, rules)
        }
        _ => Err("use an https or ssh URL, `git@host:path`, or an absolute path".to_owned()),
    }
}

fn ssh(url: Url, rules: &UrlRules) -> Result<RemoteUrl, String> {
    if url.path().trim_matches(['/', '~']).is_empty() {
        return Err("it names a host, but no repository on it".to_owned());
    }
    if url.password().is_some() {
        return Err("ssh takes a key, no password: use --ssh-key and --known-hosts".to_owned());
    }
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    if path.chars().any(char::is_control) {
        return Err("its path holds a control character".to_owned());
    }
    let user = match url.username() {
        "" => "git",
        user => user,
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !user.chars().all(is_plain) || user.starts_with('-') {
        return Err("its user name may hold letters, digits, `.`, `_` and `-`".to_owned());
    }
    // The `url` crate leaves hosts of ssh as they are; these are read, and so refused, as those of https.
    let host = Host::parse(url.host_str().ok_or("it names no host")?)
        .map_err(|error| error.to_string())?;
    let judged = match &host {
        Host::Domain(name) => Host::Domain(name.as_str()),
        Host::Ipv4(ip) => Host::Ipv4(*ip),
        Host::Ipv6(ip) => Host::Ipv6(*ip),
    };
    rules.admit_host(&judged)?;
    let port = match url.port() {
        None | Some(SSH_PORT) => String::new(),
        Some(port) => format!(":{port}"),
    };
    let written = format!("ssh://{user}@{host}{port}{}", url.path());
    let url = Url::parse(&written).map_err(|error| error.to_string())?;
    Ok(RemoteUrl { url, login: None })
}

fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the address of a repository has no `?` and no `#`".to_owned());
    }
    Ok(url)
}

fn web(mut url: Url, rules: &UrlRules) -> Result<RemoteUrl, String> {
    if url.path().trim_matches('/').is_empty() {
        return Err("it names a host, but no repository on it".to_owned());
    }
    rules.admit_host(&url.host().ok_or("it names no host")?)?;
    let login = embedded(&url)?;
    // Neither fails for a URL with a host, and http URLs have one.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return Err("it names no host".to_owned());
    }
    Ok(RemoteUrl { url, login })
}

fn embedded(url: &Url) -> Result<Option<Login>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(|text| text.into_owned())
            .map_err(|_| "its user name or password is not UTF-8".to_owned())
    };
    Ok(Some(Login {
        username: decoded(url.username())?,
        password: SecretString::from(decoded(url.password().unwrap_or_default())?),
    }))
}

fn file(url: Url, rules: &UrlRules) -> Result<RemoteUrl, String> {
    if !rules.allow_file_urls {
        return Err(
            "the configuration does not allow repositories on the daemon's disk".to_owned(),
        );
    }
    let Ok(path) = url.to_file_path() else {
        return Err("a file URL has three slashes and an absolute path".to_owned());
    };
    // Written anew, so that `file://localhost/x` and `/x` are one address.
    let url = Url::from_file_path(path).map_err(|()| "not an absolute path".to_owned())?;
    Ok(RemoteUrl { url, login: None })
}

/// An address that did not parse, fit for an error: nothing that could be a password.
fn redacted(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // What follows may hold secrets too: `?token=...`.
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    // A password may hold a slash that somebody forgot to encode, so up to the last `@`.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    one_line(&format!("{scheme}{rest}"), 200)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    const ALL: UrlRules = UrlRules {
        allow_file_urls: true,
        allow_loopback: true,
        allow_private: true,
        hosts: Vec::new(),
        allow_open_passwords: false,
    };

    fn why(text: &str) -> String {
        match RemoteUrl::parse(text, &ALL) {
            Err(Error::InvalidUrl { why, .. }) => why,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn addresses_are_written_in_one_form() {
        let forms = [
            (
                "https://example.org/team/model.git",
                "https://example.org/team/model.git",
            ),
            (
                " HTTPS://Example.ORG:443/team/model ",
                "https://example.org/team/model",
            ),
            ("http://10.0.0.1:3000/a/b", "http://10.0.0.1:3000/a/b"),
            ("/srv/git/model.git", "file:///srv/git/model.git"),
            ("file:///srv/git/model.git", "file:///srv/git/model.git"),
            ("file://localhost/srv/model.git", "file:///srv/model.git"),
            (
                "/srv/with space:and colon",
                "file:///srv/with%20space:and%20colon",
            ),
        ];
        for (text, form) in forms {
            assert_eq!(RemoteUrl::parse(text, &ALL).unwrap().as_str(), form);
        }
    }

    #[test]
    fn addresses_of_ssh_are_written_in_one_form_and_say_the_path_as_git_does() {
        let forms = [
            (
                "ssh://git@Example.org:22/team/model.git",
                "ssh://git@example.org/team/model.git",
                "/team/model.git",
            ),
            (
                "ssh://example.org:2222/srv/a%20b",
                "ssh://git@example.org:2222/srv/a%20b",
                "/srv/a b",
            ),
            (
                "git@example.org:team/model.git",
                "ssh://git@example.org/~/team/model.git",
                "team/model.git",
            ),
            (
                "ada@10.0.0.1:/srv/model.git",
                "ssh://ada@10.0.0.1/srv/model.git",
                "/srv/model.git",
            ),
            (
                "ssh://ada@example.org/~bob/x",
                "ssh://ada@example.org/~bob/x",
                "~bob/x",
            ),
        ];
        for (text, form, path) in forms {
            let url = RemoteUrl::parse(text, &ALL).unwrap();
            assert_eq!((url.as_str(), url.ssh_path().as_str()), (form, path));
        }
        let url = RemoteUrl::parse("ssh://git@example.org:2222/x", &ALL).unwrap();
        assert_eq!(url.known_host(), "[example.org]:2222");
    }

    #[test]
    fn credentials_are_moved_out_of_the_address() {
        let url = RemoteUrl::parse("https://ada:p%40ss@example.org/model", &ALL).unwrap();
        assert_eq!(url.as_str(), "https://example.org/model");
        let login = url.login().unwrap();
        assert_eq!(login.username, "ada");
        assert_eq!(login.password.expose_secret(), "p@ss");
        assert!(!format!("{url} {url:?}").contains("p@ss"));
    }

    #[test]
    fn what_git_would_take_for_a_command_is_refused() {
        assert!(why("--upload-pack=touch x").contains("dash"));
        assert!(why("-oProxyCommand=touch").contains("dash"));
        assert!(why("ext::sh -c touch% /tmp/x").contains("remote helpers"));
        assert!(why("fd::17/foo").contains("remote helpers"));
        assert!(why("https::https://example.org/x").contains("remote helpers"));
    }

    #[test]
    fn other_transports_are_refused_in_words() {
        assert!(why("ssh://git:geheim@example.org/x").contains("a key, no password"));
        assert!(why("ssh://-oProxyCommand=x@example.org/x").contains("user name"));
        assert!(why("ssh://git@example.org").contains("no repository"));
        assert!(why("ssh://git@example.org/a%0ab").contains("control"));
        assert!(why("git://example.org/model").contains("https"));
        assert!(why("ftp://example.org/model").contains("\"ftp\""));
        assert!(why("models/churn").contains("absolute path"));
        assert!(why("").contains("empty"));
        assert!(why("https://example.org").contains("no repository"));
        assert!(why("https://example.org/a?token=x").contains('?'));
        assert!(why("file://server/share").contains("three slashes"));
        assert!(why("https://example.org/a\nb").contains("control"));
        assert!(why("https:\\\\example.org\\a").contains("backslash"));
        assert!(why(&format!("/{}", "a".repeat(3000))).contains("longer"));
    }

    #[test]
    fn file_addresses_need_the_operators_leave() {
        let rules = UrlRules::default();
        for text in [
            "/srv/model.git",
            "file:///srv/model.git",
            "FILE:///srv/model.git",
        ] {
            let error = RemoteUrl::parse(text, &rules).unwrap_err();
            assert!(error.to_string().contains("does not allow"), "{error}");
        }
    }

    #[test]
    fn a_refused_address_shows_no_password() {
        for text in [
            "ftp://ada:geheim@example.org/x",
            "https://ada:ge/heim@example.org/x?token=geheim",
            "ada:geheim@example.org:model",
            "https://ada:geheim@[bad/x",
        ] {
            let error = RemoteUrl::parse(text, &ALL).unwrap_err().to_string();
            assert!(
                !error.contains("heim") && !error.contains("token="),
                "{error}"
            );
        }
    }

    #[test]
    fn class_14_addresses_of_the_daemons_own_surroundings_are_refused_in_every_spelling() {
        for text in [
            "http://127.0.0.1:8080/x",
            "http://2130706433/x",
            "http://0x7f.1/x",
            "http://0177.0.0.1/x",
            "http://127.1/x",
            "http://127.0.0.1./x",
            "http://LOCALHOST/x",
            "http://localhost./x",
            "http://a.localhost/x",
            "http://[::1]/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://[::ffff:a9fe:a9fe]/x",
            "http://169.254.169.254/latest/meta-data",
            "http://good.example@169.254.169.254/x",
            "http://\u{ff11}27.0.0.1/x",
            "http://0/x",
            "http://10.0.0.5/x",
            "ssh://git@127.0.0.1/x",
            "ssh://git@0x7f.1/x",
            "ssh://git@[::1]/x",
            "git@169.254.169.254:x",
            "git@localhost:x",
            "https://192.168.1.1/x",
        ] {
            let error = RemoteUrl::parse(text, &UrlRules::default()).unwrap_err();
            assert!(error.to_string().contains("`git."), "{text}: {error}");
        }
        assert!(RemoteUrl::parse("https://github.com/a/b", &UrlRules::default()).is_ok());
    }

    #[test]
    fn a_password_is_not_sent_without_encryption() {
        let refused = |text: &str, rules: &UrlRules| {
            let url = RemoteUrl::parse(text, rules).unwrap();
            url.refuse_open_password(rules).is_err()
        };
        assert!(refused("http://example.org/x", &ALL));
        assert!(!refused("https://example.org/x", &ALL));
        assert!(!refused("http://127.0.0.1:3000/x", &ALL));
        assert!(!refused("http://localhost/x", &ALL));
        let open = UrlRules {
            allow_open_passwords: true,
            ..ALL
        };
        assert!(!refused("http://example.org/x", &open));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_taken_is_one_of_ours(text in "[a-z:/@.\\-?# %]{0,40}|.{0,40}") {
            if let Ok(url) = RemoteUrl::parse(&text, &ALL) {
                let form = url.as_str();
                prop_assert!(
                    ["https://", "http://", "ssh://", "file:///"].iter().any(|start| form.starts_with(start))
                );
                let again = RemoteUrl::parse(form, &ALL).unwrap();
                prop_assert_eq!(again.as_str(), form);
            }
        }
    }
}
