//! Git remotes: which addresses are allowed, the daemon's mirrors, and the repos that are named at its start.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::unistd::{User, getuid};
use trainyard_core::name::RepoName;
use trainyard_core::principal::{Act, Principal};
use trainyard_forge::{FetchLimits, Git, Mirrors, RemoteUrl, UrlRules, Worker};
use trainyard_store::{NewRepo, Store};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::serve::ServeError;

/// The hidden command of this program that runs the git process.
pub const GIT_WORKER: &str = "git-worker";

/// The addresses that may be followed.
pub(crate) fn url_rules(config: &Config) -> UrlRules {
    UrlRules {
        allow_file_urls: config.allow_file_urls,
        allow_loopback: config.is_dev,
        allow_private: config.git.private_addresses,
        hosts: config.git.hosts.clone().unwrap_or_default().0,
        allow_open_passwords: config.git.open_passwords,
    }
}

/// The mirrors, and git's processes.
pub(crate) fn git(config: &Config, data: &DataDir, rules: &UrlRules) -> Result<Git, ServeError> {
    let limits = FetchLimits {
        time: config.git.fetch_time.0,
        bytes: usize::try_from(config.git.fetch_size.0).unwrap_or(usize::MAX),
        slowest: config.git.slowest.0,
        ..FetchLimits::default()
    };
    let mirrors = Mirrors::new(data.folder("mirrors")?)
        .with_rules(rules.clone())
        .with_limits(limits);
    let worker = Worker::this_program(GIT_WORKER).with_memory(config.git.memory.0);
    Ok(Git::new(mirrors, worker))
}

/// The addresses of the repos that are named at the start. A folder without a git repository is refused, before anything
/// is made: otherwise only its sync would fail, later.
pub(crate) fn named(repos: &[String], rules: &UrlRules) -> Result<Vec<RemoteUrl>, ServeError> {
    let url = |repo: &String| {
        let text = match std::path::Path::new(repo).canonicalize() {
            Ok(path) => path.display().to_string(),
            Err(_) => repo.clone(),
        };
        let url = RemoteUrl::parse(&text, rules).map_err(|error| refused(repo, error))?;
        match url.missing_on_disk() {
            Some(problem) => Err(refused(repo, problem)),
            None => Ok(url),
        }
    };
    repos.iter().map(url).collect()
}

fn refused(repo: &str, problem: impl std::fmt::Display) -> ServeError {
    ServeError::Repo {
        repo: repo.to_owned(),
        problem: problem.to_string(),
    }
}

/// The user who starts this daemon.
pub(crate) fn starter() -> Act {
    let uid = getuid();
    // A container often has no entry for the user of its process.
    let user = User::from_uid(uid).ok().flatten();
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    Act::local(Principal::user(uid.as_raw(), name))
}

/// Follows the repos that were named at the start, unless they are followed already. Returns a message for each.
pub(crate) async fn follow(
    store: &Store,
    act: &Act,
    repos: &[RemoteUrl],
    poll_every: Duration,
) -> Result<Vec<String>, ServeError> {
    if repos.is_empty() {
        return Ok(Vec::new());
    }
    let mut known: BTreeMap<String, (String, Option<String>)> = store
        .list_repos()
        .await?
        .into_iter()
        .map(|repo| {
            let branch = repo.followed_branch.or(repo.current_branch);
            (repo.shown.url, (repo.shown.name, branch))
        })
        .collect();
    let mut said = Vec::new();
    for url in repos {
        if !known.contains_key(url.as_str()) {
            let name = RepoName::new(name_of(url.as_str()))
                .map_err(|error| refused(url.as_str(), error))?;
            // The branch of a checkout is fixed now: secrets belong to it, and not to a branch that is checked out
            // later.
            let branch = url.checked_out_branch();
            let new = NewRepo {
                name: name.clone(),
                url: url.as_str().to_owned(),
                followed_branch: branch.clone(),
                poll_every,
                webhook_secret: None,
                credentials: None,
            };
            store.add_repo(act, &new).await?;
            known.insert(url.as_str().to_owned(), (name.to_string(), branch));
        }
        let (name, branch) = &known[url.as_str()];
        said.push(match branch {
            Some(branch) => format!(
                "Repo {name} follows branch {branch} of {url}; `trainyard repo set {name} --branch BRANCH` changes that"
            ),
            None => format!("Repo {name} follows the default branch of {url}"),
        });
    }
    Ok(said)
}

/// The last part of a URL, as a name.
fn name_of(url: &str) -> String {
    let last = url
        .trim_end_matches('/')
        .rsplit('/')
        .find(|part| *part != ".git")
        .unwrap_or(url);
    last.trim_end_matches(".git")
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || "-_".contains(letter) {
                letter
            } else {
                '-'
            }
        })
        .collect()
}
