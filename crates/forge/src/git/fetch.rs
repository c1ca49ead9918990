//! Fetching: makes a mirror's branches and tags those of the remote.
//!
//! In three steps, each of which may be the last one that happens: ask what the remote has, bring the
//! objects, move the refs. A poll that finds nothing new ends after the first. Refs are moved here and
//! not by libgit2, which creates before it prunes and so stumbles over a branch `a` that became `a/b`.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use git2::{
    AutotagOption, Direction, FetchOptions, Oid, ProxyOptions, RemoteCallbacks, RemoteConnection,
    RemoteRedirect, Repository,
};
use tracing::debug;

use super::credentials::Answers;
use super::limits::Watch;
use super::{Cancel, CommitSha, Credentials, Error, Mirror, RemoteUrl};

const BRANCHES: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// The longest name of a ref, and the longest part of one between slashes, in bytes.
const LONGEST_NAME: usize = 1000;
const LONGEST_PART: usize = 240;

/// What the remote has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heads {
    /// The branch that the remote calls its default; where it names none that exists, the only
    /// branch, else `main` or `master`.
    pub default_branch: Option<String>,
    /// The branches, by name without `refs/heads/`.
    pub branches: BTreeMap<String, CommitSha>,
    /// The tags that lead to a commit, by name without `refs/tags/`.
    pub tags: BTreeMap<String, CommitSha>,
}

/// What the remote says it has: full names of branches and tags, and what they point to.
type Advertised = BTreeMap<String, Oid>;

impl Mirror {
    /// Brings all branches and tags of `url` here; what is gone there goes here, and what was forced
    /// there is forced here. Credentials in the address count only where none are given.
    ///
    /// # Errors
    /// [`Error`], by what can be done about it. The mirror is as it was, or, when the disk failed at
    /// the very end, has some of the new heads; the next fetch makes it whole.
    pub fn fetch(
        &self,
        url: &str,
        credentials: Option<&Credentials>,
        cancel: &Cancel,
    ) -> Result<Heads, Error> {
        let url = RemoteUrl::parse(url, &self.rules)?;
        refuse_missing_folder(&url)?;
        let watch = Watch::start(self.limits, cancel.clone());
        let _lock = self.lock(&watch)?;
        let repository = self.open_or_create()?;
        let remote = Remote {
            url: &url,
            credentials: credentials.or(url.credentials()),
            watch: &watch,
            repository: &repository,
        };
        let default_branch = remote.bring()?;
        heads(&repository, default_branch)
            .map_err(|error| Error::of_mirror("the mirror's heads cannot be read", &error))
    }
}

/// libgit2 says little about a path that is not a repository.
fn refuse_missing_folder(url: &RemoteUrl) -> Result<(), Error> {
    let Some(path) = url.path() else {
        return Ok(());
    };
    let why = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "that is a file".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::NotFound {
        url: url.to_string(),
        why,
    })
}

/// One fetch.
struct Remote<'a> {
    url: &'a RemoteUrl,
    credentials: Option<&'a Credentials>,
    watch: &'a Watch,
    repository: &'a Repository,
}

impl<'a> Remote<'a> {
    /// Returns what the remote calls its default branch.
    fn bring(&self) -> Result<Option<String>, Error> {
        let failed = |error: git2::Error| Error::of_remote(self.url, self.watch, &error);
        // Before the connection, which keeps pointing to them.
        let mut options = self.options();
        let mut remote = self
            .repository
            .remote_anonymous(self.url.as_str())
            .map_err(failed)?;
        let mut proxy = ProxyOptions::new();
        proxy.auto();
        let mut connection = remote
            .connect_auth(Direction::Fetch, Some(self.callbacks()), Some(proxy))
            .map_err(failed)?;
        let advertised = self.advertised(&connection)?;
        let default_branch = connection
            .default_branch()
            .ok()
            .and_then(|name| Some(name.as_str().ok()?.strip_prefix(BRANCHES)?.to_owned()));
        let ours = local(self.repository)
            .map_err(|error| Error::of_mirror("the mirror's refs cannot be read", &error))?;
        if ours != advertised {
            connection
                .remote()
                .download(&REFSPECS, Some(&mut options))
                .map_err(failed)?;
            drop(connection);
            self.take_over(&ours, &advertised)?;
        }
        Ok(default_branch)
    }

    fn advertised(&self, connection: &RemoteConnection<'_, '_, '_>) -> Result<Advertised, Error> {
        let list = connection
            .list()
            .map_err(|error| Error::of_remote(self.url, self.watch, &error))?;
        let mut refs = Advertised::new();
        for head in list {
            // git2 panics on a name that is not UTF-8, which git allows.
            let Ok(name) = catch_unwind(AssertUnwindSafe(|| head.name().to_owned())) else {
                continue;
            };
            let is_ours = name.starts_with(BRANCHES) || name.starts_with(TAGS);
            // `refs/tags/v1^{}` only says where the tag leads.
            if !is_ours || name.ends_with("^{}") {
                continue;
            }
            if !can_be_kept(&name) {
                debug!(name, "a ref whose name cannot be kept is left out");
                continue;
            }
            refs.insert(name, head.oid());
            if refs.len() > self.watch.limits().refs {
                return Err(Error::TooLarge {
                    what: self.url.to_string(),
                    why: format!(
                        "a repo may have {} branches and tags",
                        self.watch.limits().refs
                    ),
                });
            }
        }
        Ok(refs)
    }

    fn take_over(&self, ours: &Advertised, advertised: &Advertised) -> Result<(), Error> {
        let failed = |error: git2::Error| Error::of_mirror("the mirror cannot be written", &error);
        let objects = self.repository.odb().map_err(failed)?;
        if let Some((name, _)) = advertised.iter().find(|(_, id)| !objects.exists(**id)) {
            return Err(Error::Corrupt {
                what: self.url.to_string(),
                why: format!("it has {name}, but does not send its objects"),
            });
        }
        for name in ours.keys().filter(|name| !advertised.contains_key(*name)) {
            self.repository
                .find_reference(name)
                .and_then(|mut reference| reference.delete())
                .map_err(failed)?;
        }
        for (name, id) in advertised
            .iter()
            .filter(|(name, id)| ours.get(*name) != Some(*id))
        {
            let _ = self
                .repository
                .reference(name, *id, true, "fetch")
                .map_err(failed)?;
        }
        Ok(())
    }

    fn options(&self) -> FetchOptions<'a> {
        let mut options = FetchOptions::new();
        let mut proxy = ProxyOptions::new();
        proxy.auto();
        options
            .remote_callbacks(self.callbacks())
            .proxy_options(proxy)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .follow_redirects(RemoteRedirect::None);
        options
    }

    fn callbacks(&self) -> RemoteCallbacks<'a> {
        let answers = Answers::new(self.url, self.credentials);
        let watch = self.watch;
        let mut callbacks = RemoteCallbacks::new();
        callbacks
            .credentials(move |asker, _, kinds| answers.answer(asker, kinds))
            .transfer_progress(move |progress| watch.goes_on(progress.received_bytes()))
            .sideband_progress(move |_| watch.goes_on(0));
        callbacks
    }
}

/// Whether a ref of this name can be a file of the mirror, its lock file beside it.
fn can_be_kept(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.split('/').all(|part| part.len() <= LONGEST_PART)
        && git2::Reference::is_valid_name(name)
}

/// The mirror's own branches and tags.
fn local(repository: &Repository) -> Result<Advertised, git2::Error> {
    let mut refs = Advertised::new();
    for reference in repository.references()? {
        let reference = reference?;
        let Ok(name) = reference.name() else { continue };
        if let Some(id) = reference.target()
            && (name.starts_with(BRANCHES) || name.starts_with(TAGS))
        {
            refs.insert(name.to_owned(), id);
        }
    }
    Ok(refs)
}

fn heads(repository: &Repository, default: Option<String>) -> Result<Heads, git2::Error> {
    let mut heads = Heads::default();
    for (name, id) in local(repository)? {
        // A tag may lead to a file or a tree, and then names nothing that could be run.
        let Ok(commit) = repository
            .find_object(id, None)
            .and_then(|object| object.peel_to_commit())
        else {
            debug!(name, "a ref that leads to no commit is left out");
            continue;
        };
        let commit = CommitSha::of(commit.id());
        if let Some(branch) = name.strip_prefix(BRANCHES) {
            heads.branches.insert(branch.to_owned(), commit);
        } else if let Some(tag) = name.strip_prefix(TAGS) {
            heads.tags.insert(tag.to_owned(), commit);
        }
    }
    let names: BTreeSet<&str> = heads.branches.keys().map(String::as_str).collect();
    heads.default_branch = default_branch(default.as_deref(), &names).map(ToOwned::to_owned);
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
