//! The git remotes that a daemon follows: which ones it may, its mirrors of them, and those named at its start.

use std::time::Duration;

use trainyard_core::name::RepoName;
use trainyard_forge::{FetchLimits, Git, Mirrors, RemoteUrl, UrlRules, Worker};
use trainyard_store::{NewRepo, Store};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::serve::ServeError;

/// The hidden command of this program that is git's process.
pub const GIT_WORKER: &str = "git-worker";

/// Which addresses may be followed.
pub(crate) fn url_rules(config: &Config) -> UrlRules {
    UrlRules {
        allow_file_urls: config.allow_file_urls,
        allow_loopback: config.git.loopback,
        allow_private: config.git.private_addresses,
        hosts: config.git.hosts.0.clone(),
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

/// Follows the repos that were named at the start, unless they are followed already.
pub(crate) async fn follow(
    store: &Store,
    repos: &[String],
    rules: &UrlRules,
    poll_every: Duration,
) -> Result<(), ServeError> {
    if repos.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = store
        .list_repos()
        .await?
        .into_iter()
        .map(|repo| repo.url)
        .collect();
    for repo in repos {
        let fault = |problem: String| ServeError::Repo {
            repo: repo.clone(),
            problem,
        };
        let text = match std::path::Path::new(repo).canonicalize() {
            Ok(path) => path.display().to_string(),
            Err(_) => repo.clone(),
        };
        let url = RemoteUrl::parse(&text, rules).map_err(|error| fault(error.to_string()))?;
        if known.iter().any(|known| known == url.as_str()) {
            continue;
        }
        let name =
            RepoName::new(name_of(url.as_str())).map_err(|error| fault(error.to_string()))?;
        let new = NewRepo {
            name,
            url: url.as_str().to_owned(),
            followed_branch: None,
            poll_every,
            webhook_secret: None,
            credentials: None,
        };
        store.add_repo(&new).await?;
    }
    Ok(())
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
