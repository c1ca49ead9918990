//! The requests to a child process, and its answers.
//!
//! Each child gets one request, as a line of JSON on its standard input, which stays open while the answer is wanted.
//! The answer is a line of JSON on its standard output, followed by the raw text of DAG files: as JSON it could be
//! six times as long.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_core::id::RepoId;

use super::credentials::Shown;
use super::{
    CancelFlag, ChangedPaths, CommitInfo, CommitSha, Contents, Credentials, DagFileText, Error,
    FetchLimits, Heads, Mirror, Mirrors, PathEntry, StandIns, TreeSha, UrlRules,
};

/// The limits of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    /// Memory of its own, in bytes.
    pub(super) memory: u64,
    pub(super) cpu: Duration,
    /// The largest file that it may write.
    pub(super) file: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) bounds: Bounds,
    pub(super) root: PathBuf,
    pub(super) repo: String,
    pub(super) rules: UrlRules,
    pub(super) limits: FetchLimits,
    pub(super) job: Job,
}

/// The operation on a mirror.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Job {
    Fetch {
        url: String,
        credentials: Option<Shown>,
    },
    Resolve(String),
    Describe(String),
    DagFiles(CommitSha),
    Changed(Option<CommitSha>, CommitSha),
    IsAncestor(CommitSha, CommitSha),
    TreeOf(CommitSha),
    SourceTar(CommitSha, PathBuf, Option<ShownContents>),
    Commit(CommitQuery),
    Entries(CommitSha, Vec<String>),
}

/// The contents to fetch for a source tree, in the clear.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ShownContents {
    url: String,
    credentials: Option<Shown>,
    lfs: bool,
    submodules: bool,
}

impl From<&Contents> for ShownContents {
    fn from(contents: &Contents) -> Self {
        Self {
            url: contents.url.clone(),
            credentials: contents.credentials.as_ref().map(Shown::from),
            lfs: contents.lfs,
            submodules: contents.submodules,
        }
    }
}

impl From<ShownContents> for Contents {
    fn from(shown: ShownContents) -> Self {
        Self {
            url: shown.url,
            credentials: shown.credentials.map(Credentials::from),
            lfs: shown.lfs,
            submodules: shown.submodules,
        }
    }
}

/// A question about a commit that a branch points to now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitQuery {
    pub after: CommitSha,
    /// Whether its DAG files are wanted.
    pub dag_files: bool,
    /// Whether the changed paths are wanted, and since which commit: `None` if there is none.
    pub changed_since: Option<Option<CommitSha>>,
}

/// The answer about a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its metadata.
    pub commit: CommitInfo,
    /// Its DAG files; empty if they were not requested.
    pub dag_files: Vec<DagFileText>,
    /// The changed paths; `None` if not requested or not known.
    pub changed: ChangedPaths,
}

/// One answer. The text of a DAG file is here only by its length.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Heads(Heads),
    Sha(CommitSha),
    Commit(CommitInfo),
    DagFiles(Lengths),
    Changed(ChangedPaths),
    Yes(bool),
    Tree(TreeSha),
    Archived(StandIns),
    Seen(CommitInfo, Lengths, ChangedPaths),
    Entries(Vec<PathEntry>),
}

/// Paths of DAG files, with the lengths of their texts, or why there is no text.
pub(super) type Lengths = Vec<(String, Result<usize, String>)>;

impl Job {
    pub(super) fn fetch(url: String, credentials: Option<&Credentials>) -> Self {
        let credentials = credentials.map(Shown::from);
        Self::Fetch { url, credentials }
    }
}

impl Request {
    pub(super) fn new(mirror: &Mirror, bounds: Bounds, job: Job) -> Self {
        Self {
            bounds,
            root: mirror.root.clone(),
            repo: mirror.repo.to_string(),
            rules: mirror.rules.clone(),
            limits: mirror.limits,
            job,
        }
    }

    /// Carries out the request, and writes the answer.
    pub(super) fn carry_out(self, mut to: impl Write) -> io::Result<()> {
        let mut texts = Vec::new();
        let answer = self.answer(&mut texts);
        serde_json::to_writer(&mut to, &answer)?;
        to.write_all(b"\n")?;
        for text in &texts {
            to.write_all(text.as_bytes())?;
        }
        to.flush()
    }

    fn answer(self, texts: &mut Vec<String>) -> Result<Answer, Error> {
        let repo: RepoId = self.repo.parse().map_err(|_| Error::Cancelled)?;
        let mirror = Mirrors::new(self.root)
            .with_rules(self.rules)
            .with_limits(self.limits)
            .mirror(repo);
        // A caller that cancels the request ends this process.
        let cancel = CancelFlag::default();
        Ok(match self.job {
            Job::Fetch { url, credentials } => {
                let credentials = credentials.map(Credentials::from);
                Answer::Heads(mirror.fetch(&url, credentials.as_ref(), &cancel)?)
            }
            Job::Resolve(reference) => Answer::Sha(mirror.resolve(&reference)?),
            Job::Describe(reference) => {
                let sha = mirror.resolve(&reference)?;
                Answer::Commit(mirror.commit(&sha)?)
            }
            Job::DagFiles(commit) => Answer::DagFiles(lengths(mirror.dag_files(&commit)?, texts)),
            Job::Changed(before, after) => {
                Answer::Changed(mirror.changed_paths(before.as_ref(), &after)?)
            }
            Job::IsAncestor(older, newer) => Answer::Yes(mirror.is_ancestor(&older, &newer)?),
            Job::TreeOf(commit) => Answer::Tree(mirror.tree_of(&commit)?),
            Job::SourceTar(commit, to, contents) => {
                let contents = contents.map(Contents::from);
                Answer::Archived(mirror.write_source_tar(
                    &commit,
                    &to,
                    contents.as_ref(),
                    &cancel,
                )?)
            }
            Job::Entries(commit, paths) => Answer::Entries(mirror.entries(&commit, &paths)?),
            Job::Commit(query) => {
                let commit = mirror.commit(&query.after)?;
                let files = match query.dag_files {
                    true => mirror.dag_files(&query.after)?,
                    false => Vec::new(),
                };
                let changed = match query.changed_since {
                    Some(before) => mirror.changed_paths(before.as_ref(), &query.after)?,
                    None => None,
                };
                Answer::Seen(commit, lengths(files, texts), changed)
            }
        })
    }
}

fn lengths(files: Vec<DagFileText>, texts: &mut Vec<String>) -> Lengths {
    files
        .into_iter()
        .map(|file| {
            let length = file.text.map(|text| {
                texts.push(text);
                texts.last().map_or(0, String::len)
            });
            (file.path, length)
        })
        .collect()
}

/// The files again, from their lengths and the texts in a row; `None` where the two do not fit.
pub(super) fn dag_files(lengths: Lengths, texts: &[u8]) -> Option<Vec<DagFileText>> {
    let mut rest = texts;
    let files = lengths
        .into_iter()
        .map(|(path, length)| {
            let text = match length {
                Err(why) => Err(why),
                Ok(length) => {
                    let (text, after) = rest.split_at_checked(length)?;
                    rest = after;
                    Ok(String::from_utf8(text.to_vec()).ok()?)
                }
            };
            Some(DagFileText { path, text })
        })
        .collect::<Option<Vec<_>>>()?;
    rest.is_empty().then_some(files)
}
