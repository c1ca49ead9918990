//! Fetches: sets a mirror's branches and tags to those of the remote.
//!
//! It has three steps, and may end after each: read the remote's refs, fetch the objects, move the refs. A poll that
//! finds nothing new ends after the first. Refs are moved here, all at once (`packed_refs`), and not by libgit2, which
//! makes a file of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use git2::{AutotagOption, FetchOptions, RemoteCallbacks, RemoteRedirect, Repository};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::advertised::{Advertised, BRANCHES, Refs, TAGS};
use super::limits::Watch;
use super::objects::Objects;
use super::session::Session;
use super::ssh::SshSession;
use super::transport::Remote;
use super::{
    CancelFlag, CommitSha, Credentials, Error, Mirror, RemoteUrl, odd_files, packed_refs, transport,
};
use crate::checkout::git_folder;

const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// The branches and tags of the remote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Heads {
    /// The remote's default branch; if it names none that exists, the only branch, else `main` or `master`.
    pub default_branch: Option<String>,
    /// Whether the remote names that branch itself. A checkout names none: its checked-out branch is
    /// work in progress.
    pub names_default: bool,
    /// The branches, by name without `refs/heads/`.
    pub branches: BTreeMap<String, CommitSha>,
    /// The tags that lead to a commit, by name without `refs/tags/`.
    pub tags: BTreeMap<String, CommitSha>,
    /// Branches that are left out, with the reason.
    pub refused: BTreeMap<String, String>,
    /// How many branches and tags have names that cannot be kept.
    pub left_out: usize,
}

impl Mirror {
    /// Fetches all branches and tags of `url`; deleted ones are deleted here, and forced ones are forced here.
    /// Credentials in the address count only if none are given.
    ///
    /// # Errors
    /// [`Error`], by what the caller can do about it. The mirror has its old heads then.
    pub fn fetch(
        &self,
        url: &str,
        credentials: Option<&Credentials>,
        cancel: &CancelFlag,
    ) -> Result<Heads, Error> {
        let url = RemoteUrl::parse(url, &self.rules)?;
        refuse_bad_folder(&url)?;
        let (login, key) = match credentials {
            Some(Credentials::Login(login)) => (Some(login), None),
            Some(Credentials::SshKey(key)) => (None, Some(key)),
            None => (url.login(), None),
        };
        url.refuse_credentials(login.is_some(), key.is_some(), &self.rules)?;
        let watch = Arc::new(Watch::start(self.limits, cancel.clone()));
        let _lock = self.lock(&watch)?;
        let repository = self.open_or_create()?;
        let fetch = Fetch {
            url: &url,
            watch: &watch,
            repository: &repository,
        };
        let (advertised, refused) = match url.path() {
            Some(path) => {
                let advertised = fetch.on_disk(&path)?;
                let refused = fetch.bring(&advertised, || None)?;
                (advertised, refused)
            }
            None => {
                let (session, list) = if url.is_ssh() {
                    let (session, list) = SshSession::open(&url, key, &self.rules, &watch)?;
                    (Remote::Ssh(Arc::new(session)), list)
                } else {
                    let watch = Arc::clone(&watch);
                    let session = Session::open(&url, login, &self.rules, watch)?;
                    let list = session.list()?;
                    (Remote::Http(Arc::new(session)), list)
                };
                let advertised = Advertised::read(&url, &list, self.limits.refs)?;
                let refused = transport::with(&session, list, || {
                    fetch.bring(&advertised, || session.failure())
                })?;
                (advertised, refused)
            }
        };
        let mut heads = heads(&repository, advertised, refused)?;
        let is_checkout = url.path().is_some_and(|path| git_folder(&path).is_some());
        heads.names_default &= !is_checkout;
        Ok(heads)
    }
}

fn refuse_bad_folder(url: &RemoteUrl) -> Result<(), Error> {
    let Some(path) = url.path() else {
        return Ok(());
    };
    let why = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => match odd_files::find(&path) {
            None => return Ok(()),
            Some(file) => format!("{} is not a regular file", file.display()),
        },
        Ok(_) => "that is a file".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::NotFound {
        url: url.to_string(),
        why,
    })
}

struct Fetch<'a> {
    url: &'a RemoteUrl,
    watch: &'a Watch,
    repository: &'a Repository,
}

impl Fetch<'_> {
    /// The refs of a repository on this machine's disk.
    fn on_disk(&self, path: &Path) -> Result<Advertised, Error> {
        let failed = |error: git2::Error| Error::of_remote(self.url, self.watch, &error);
        let remote = Repository::open(path).map_err(failed)?;
        let mut advertised = Advertised::default();
        for reference in remote.references().map_err(failed)? {
            let reference = reference.map_err(failed)?;
            let at_most = self.watch.limits().refs;
            // A symbolic ref counts as its target, as over http.
            if let Some(id) = reference.target().or_else(|| {
                let led = reference.resolve().ok()?;
                led.target()
            }) {
                advertised.take(self.url, reference.name_bytes(), id, at_most)?;
            }
        }
        let head = remote.find_reference("HEAD").ok();
        let target = head
            .as_ref()
            .and_then(git2::Reference::symbolic_target_bytes);
        advertised.default_branch = target
            .and_then(|target| std::str::from_utf8(target).ok())
            .and_then(|name| name.strip_prefix(BRANCHES))
            .map(ToOwned::to_owned);
        Ok(advertised)
    }

    /// Fetches the objects, and moves the refs. `failure` has a better error than libgit2's, if any. Returns the
    /// branches that are left out, with the reason.
    fn bring(
        &self,
        advertised: &Advertised,
        failure: impl Fn() -> Option<Error>,
    ) -> Result<BTreeMap<String, String>, Error> {
        let ours = local(self.repository)?;
        if ours == advertised.refs {
            return Ok(BTreeMap::new());
        }
        let mut options = self.options();
        let mut remote = self
            .repository
            .remote_anonymous(self.url.as_str())
            .map_err(|error| Error::of_remote(self.url, self.watch, &error))?;
        remote
            .download(&REFSPECS, Some(&mut options))
            .map_err(|error| {
                failure().unwrap_or_else(|| Error::of_remote(self.url, self.watch, &error))
            })?;
        let (taken, refused) = self.weigh(&advertised.refs)?;
        self.move_refs(&ours, &taken)?;
        Ok(refused)
    }

    /// Leaves out refs whose objects are too large to be read. They get no ref in the mirror either: libgit2 starts
    /// from its refs, at the next fetch, to list what is here already.
    fn weigh(&self, advertised: &Refs) -> Result<(Refs, BTreeMap<String, String>), Error> {
        let objects = Objects::of(self.repository)?;
        let (mut taken, mut refused) = (Refs::new(), BTreeMap::new());
        for (name, id) in advertised {
            match (objects.peel(*id), name.strip_prefix(BRANCHES)) {
                (Err(Error::TooLarge { what, why }), Some(branch)) => {
                    let error = Error::TooLarge { what, why };
                    refused.insert(branch.to_owned(), error.to_string());
                }
                (Err(Error::TooLarge { .. }), None) => {
                    debug!(name, "a tag that is too large is left out");
                }
                (Err(error), _) => return Err(error),
                (Ok(_), _) => {
                    taken.insert(name.clone(), *id);
                }
            }
        }
        Ok((taken, refused))
    }

    fn move_refs(&self, ours: &Refs, advertised: &Refs) -> Result<(), Error> {
        let failed = |error: git2::Error| Error::of_mirror("the mirror cannot be written", &error);
        let objects = self.repository.odb().map_err(failed)?;
        if let Some((name, _)) = advertised.iter().find(|(_, id)| !objects.exists(**id)) {
            return Err(Error::Corrupt {
                what: self.url.to_string(),
                why: format!("it has {name}, but does not send its objects"),
            });
        }
        if ours == advertised {
            return Ok(());
        }
        packed_refs::write(self.repository.path(), advertised)
            .map_err(|error| Error::disk("the mirror's refs cannot be written", &error))
    }

    fn options(&self) -> FetchOptions<'_> {
        let watch = self.watch;
        let mut callbacks = RemoteCallbacks::new();
        callbacks
            .transfer_progress(move |progress| watch.goes_on(progress.received_bytes()))
            .sideband_progress(move |_| watch.goes_on(0));
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(callbacks)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .follow_redirects(RemoteRedirect::None);
        options
    }
}

/// The mirror's own branches and tags.
fn local(repository: &Repository) -> Result<Refs, Error> {
    let failed = |error: git2::Error| Error::of_mirror("the mirror's refs cannot be read", &error);
    let mut refs = Refs::new();
    for reference in repository.references().map_err(failed)? {
        let reference = reference.map_err(failed)?;
        let Ok(name) = reference.name() else { continue };
        if let Some(id) = reference.target()
            && (name.starts_with(BRANCHES) || name.starts_with(TAGS))
        {
            refs.insert(name.to_owned(), id);
        }
    }
    Ok(refs)
}

fn heads(
    repository: &Repository,
    advertised: Advertised,
    refused: BTreeMap<String, String>,
) -> Result<Heads, Error> {
    let objects = Objects::of(repository)?;
    let mut heads = Heads {
        left_out: advertised.left_out,
        refused,
        ..Heads::default()
    };
    for (name, id) in local(repository)? {
        // A tag may point to a file or a tree, which cannot be run.
        let Some(commit) = objects.peel(id)? else {
            debug!(name, "a ref that leads to no commit is left out");
            continue;
        };
        let commit = CommitSha::of(commit);
        if let Some(branch) = name.strip_prefix(BRANCHES) {
            heads.branches.insert(branch.to_owned(), commit);
        } else if let Some(tag) = name.strip_prefix(TAGS) {
            heads.tags.insert(tag.to_owned(), commit);
        }
    }
    let names: BTreeSet<&str> = heads.branches.keys().map(String::as_str).collect();
    let named = advertised.default_branch.as_deref();
    heads.default_branch = default_branch(named, &names).map(ToOwned::to_owned);
    heads.names_default = named.is_some() && named == heads.default_branch.as_deref();
    Ok(heads)
}

fn default_branch<'a>(named: Option<&'a str>, branches: &BTreeSet<&'a str>) -> Option<&'a str> {
    let only = || branches.first().copied().filter(|_| branches.len() == 1);
    let usual = || {
        ["main", "master"]
            .into_iter()
            .find(|name| branches.contains(name))
    };
    named
        .filter(|name| branches.contains(name))
        .or_else(only)
        .or_else(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_branch_is_guessed_where_the_remote_names_none_that_exists() {
        let of = |named, branches: &[&'static str]| {
            default_branch(named, &branches.iter().copied().collect())
        };
        assert_eq!(of(Some("trunk"), &["main", "trunk"]), Some("trunk"));
        assert_eq!(of(Some("master"), &["main", "x"]), Some("main"));
        assert_eq!(of(None, &["x"]), Some("x"));
        assert_eq!(of(None, &["master", "x"]), Some("master"));
        assert_eq!(of(None, &["x", "y"]), None);
        assert_eq!(of(Some("main"), &[]), None);
    }
}
