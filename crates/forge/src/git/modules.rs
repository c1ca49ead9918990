//! The submodules of a source tree.
//!
//! 1. They are fetched without credentials: a commit names their addresses, and a user who may push could otherwise
//!    read everything that the repo's password opens. For the same reason none is fetched from the daemon's disk.
//! 2. Each has a mirror below that of its repo, which is removed with it, under the same limits as every fetch. How much
//!    is kept of all of them is bounded ([`super::kept_modules`]).

use std::collections::BTreeMap;

use git2::Tree;
use sha2::{Digest, Sha256};
use url::Url;

use super::objects::{Kind, Objects};
use super::{Error, Mirror, RemoteUrl, UrlRules};
use crate::one_line::one_line;

/// How deep submodules may be nested, and how many one source tree may have.
pub(super) const DEEPEST: usize = 3;
pub(super) const MOST: usize = 20;

/// The longest list of submodules, in bytes.
const LIST_BYTES: usize = 64 << 10;

/// The addresses of submodules by their paths, from `.gitmodules`.
pub(super) type Modules = BTreeMap<Vec<u8>, String>;

/// Reads `.gitmodules` at the root of a tree.
pub(super) fn list(objects: &Objects<'_>, root: &Tree<'_>) -> Result<Modules, Error> {
    let Some(entry) = root.get_name(".gitmodules") else {
        return Ok(Modules::new());
    };
    if !matches!(Kind::of(entry.filemode()), Kind::File { .. }) {
        return Ok(Modules::new());
    }
    if objects.file_size(entry.id())? > LIST_BYTES {
        return Err(Error::TooLarge {
            what: ".gitmodules".to_owned(),
            why: format!("it may have {} KiB", LIST_BYTES >> 10),
        });
    }
    let file = objects.file(entry.id())?;
    Ok(read(&String::from_utf8_lossy(file.data())))
}

/// The lines `path` and `url` of each section: what git itself writes, without git's other syntax, such as includes.
fn read(text: &str) -> Modules {
    let mut modules = Modules::new();
    let (mut path, mut url) = (None, None);
    for line in text.lines().map(str::trim).chain(["["]) {
        if line.starts_with('[') {
            if let (Some(path), Some(url)) = (path.take(), url.take()) {
                modules.insert(path, url);
            }
            (path, url) = (None, None);
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.trim();
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value);
            match key.trim().to_ascii_lowercase().as_str() {
                "path" => path = Some(value.trim_end_matches('/').as_bytes().to_vec()),
                "url" => url = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    modules
}

/// The address of a submodule: absolute, or relative to its repo's.
pub(super) fn address(
    path: &str,
    url: &str,
    parent: &RemoteUrl,
    rules: &UrlRules,
) -> Result<RemoteUrl, Error> {
    let invalid = |why: &str| Error::InvalidUrl {
        url: one_line(url, 200),
        why: format!("the submodule {path} cannot be fetched from there: {why}"),
    };
    let url = if url.starts_with("./") || url.starts_with("../") {
        let base = format!("{}/", parent.as_str().trim_end_matches('/'));
        let joined = Url::parse(&base).and_then(|base| base.join(url));
        joined.map_err(|error| invalid(&error.to_string()))?.into()
    } else {
        url.to_owned()
    };
    let url = RemoteUrl::parse(&url, rules)?;
    if url.path().is_some() {
        return Err(invalid("submodules on the daemon's disk are not followed"));
    }
    if url.is_ssh() {
        return Err(invalid(
            "submodules are fetched without credentials, which ssh does not permit; give its https address",
        ));
    }
    if url.login().is_some() {
        return Err(invalid(
            "an address in a commit is not the place for a password",
        ));
    }
    Ok(url)
}

/// The mirror of a submodule, next to the mirror of its repo.
pub(super) fn mirror(of: &Mirror, url: &RemoteUrl) -> Result<Mirror, Error> {
    let name = hex::encode(Sha256::digest(url.as_str()));
    let repo = name[..32].parse().map_err(|_| Error::Cancelled)?;
    Ok(Mirror {
        repo,
        root: of.path().join("modules"),
        rules: of.rules.clone(),
        limits: of.limits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_addresses_are_read_and_nothing_else() {
        let text = "[include]\n\tpath = /etc/passwd\n[submodule \"lib\"]\n\tpath = vendor/lib/\n\turl = \"../lib.git\"\n\
                    \tbranch = main\n[submodule \"half\"]\n path=a\n[submodule \"b\"]\nURL = https://example.org/b\npath = b\n";
        let modules = read(text);
        let shown: Vec<_> = modules
            .iter()
            .map(|(path, url)| (String::from_utf8_lossy(path), url.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("b".into(), "https://example.org/b"),
                ("vendor/lib".into(), "../lib.git")
            ]
        );
    }

    #[test]
    fn an_address_may_be_relative_and_never_leads_to_the_disk_or_takes_a_password() {
        let rules = UrlRules {
            allow_file_urls: true,
            allow_loopback: true,
            ..UrlRules::default()
        };
        let parent = |url: &str| RemoteUrl::parse(url, &rules).unwrap();
        let of = |url: &str, base: &str| {
            let found = address("lib", url, &parent(base), &rules);
            found
                .map(|url| url.to_string())
                .map_err(|error| error.to_string())
        };
        let team = "https://example.org/team/model.git";
        assert_eq!(
            of("../lib.git", team).unwrap(),
            "https://example.org/team/lib.git"
        );
        assert_eq!(of("../../../x", team).unwrap(), "https://example.org/x");
        for (url, base, why) in [
            ("/srv/secret.git", team, "disk"),
            ("../lib.git", "/srv/model.git", "disk"),
            ("git@example.org:a/b", team, "https address"),
            ("https://a:b@example.org/x", team, "password"),
            ("http://169.254.169.254/x", team, "metadata"),
            ("ext::sh -c id", team, "remote helpers"),
        ] {
            let said = of(url, base).unwrap_err();
            assert!(said.contains(why), "{url}: {said}");
        }
    }
}
