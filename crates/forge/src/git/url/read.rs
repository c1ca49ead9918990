//! Reads the ways to write an address into the one form that is used.

use std::path::Path;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::{Host, Url};

use super::{RemoteUrl, SSH_PORT, UrlRules};
use crate::git::Login;
use crate::one_line::one_line;

/// The longest address, in bytes.
const LONGEST: usize = 2048;

pub(super) fn read(text: &str, rules: &UrlRules) -> Result<RemoteUrl, String> {
    refuse_what_is_not_an_address(text)?;
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

fn refuse_what_is_not_an_address(text: &str) -> Result<(), String> {
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
        // `git@host:team/model.git`, the scp form. A leading slash makes it a path.
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
        return Err("ssh takes a key, not a password: use --ssh-key and --known-hosts".to_owned());
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
    // The `url` crate leaves ssh hosts as they are; they are parsed, and so rejected, like those of https.
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
            "repositories on the daemon's disk are not allowed; set `allow_file_urls = true` in its configuration"
                .to_owned(),
        );
    }
    let Ok(path) = url.to_file_path() else {
        return Err("a file URL has three slashes and an absolute path".to_owned());
    };
    // Rebuilt, so that `file://localhost/x` and `/x` are one address.
    let url = Url::from_file_path(path).map_err(|()| "not an absolute path".to_owned())?;
    Ok(RemoteUrl { url, login: None })
}

/// An invalid address, safe for an error message: without any part that could be a password.
pub(super) fn redacted(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // The rest may hold secrets too: `?token=...`.
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    // A password may hold a slash that should have been encoded, so up to the last `@`.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    one_line(&format!("{scheme}{rest}"), 200)
}
