//! What a file has to do with things outside of it: its name, which no other file of the repo may have, paths in its
//! repo, and pools. They are kept with their places, and checked by the code that knows the repo or the daemon's
//! configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use trainyard_core::measure::counted;
use trainyard_core::name::{DagName, PoolName};
use trainyard_core::stage::RelativePath;

use crate::diagnostic::{Diagnostic, DiagnosticCode, Sink};
use crate::limits::ENTRIES_AT_MOST;

/// The entry at a path of a repo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Missing,
    Folder,
    File,
    /// Something else, or it is not known.
    Unknown,
}

/// The references of a file to things outside of it.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Where the name of the DAG is; empty where it is the name of the file.
    pub(crate) named_at: Range<usize>,
    paths: Vec<(String, Use, Range<usize>)>,
    /// With the slots that a stage takes.
    pools: Vec<(PoolName, u32, Range<usize>)>,
}

/// The most paths and the most pools of one file that are looked up; the others are not reported.
const KEPT: usize = ENTRIES_AT_MOST;

/// The purpose of a path of the repo.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    Context,
    /// Within this context.
    Dockerfile {
        context: String,
        is_named: bool,
    },
    /// A filter that matches this path only.
    Filter,
}

impl Outside {
    pub(crate) fn add_build(
        &mut self,
        (context, at): (&RelativePath, Range<usize>),
        (dockerfile, named_at): (&RelativePath, Option<Range<usize>>),
    ) {
        let path = match context.is_root() {
            true => dockerfile.to_string(),
            false => format!("{context}/{dockerfile}"),
        };
        let dockerfile = Use::Dockerfile {
            context: context.to_string(),
            is_named: named_at.is_some(),
        };
        self.add_path(context.to_string(), Use::Context, at.clone());
        self.add_path(path, dockerfile, named_at.unwrap_or(at));
    }

    /// A pattern without marks matches one file.
    pub(crate) fn add_filter(&mut self, pattern: &str, at: Range<usize>) {
        if !pattern.contains(['*', '?', '[', '{', '\\']) {
            self.add_path(pattern.to_owned(), Use::Filter, at);
        }
    }

    pub(crate) fn add_pool(&mut self, pool: &PoolName, slots: u32, at: Range<usize>) {
        if self.pools.len() < KEPT {
            self.pools.push((pool.clone(), slots, at));
        }
    }

    fn add_path(&mut self, path: String, wanted: Use, at: Range<usize>) {
        if self.paths.len() < KEPT {
            self.paths.push((path, wanted, at));
        }
    }

    /// The paths that [`Outside::faults_in_repo`] asks about.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<&str> {
        self.paths.iter().map(|(path, ..)| path.as_str()).collect()
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let paths = self.paths.iter().map(|(path, wanted, _)| match wanted {
            Use::Dockerfile { context, .. } => path.len() + context.len(),
            Use::Context | Use::Filter => path.len(),
        });
        (self.paths.len() + self.pools.len()) * 128 + paths.sum::<usize>()
    }

    /// Whether it names pools.
    #[must_use]
    pub fn has_pools(&self) -> bool {
        !self.pools.is_empty()
    }

    /// The faults of a file, whose text this is, in a repo that has these entries.
    #[must_use]
    pub fn faults_in_repo(&self, text: &str, entry: impl Fn(&str) -> Entry) -> Vec<Diagnostic> {
        let mut sink = Sink::new(text);
        for (path, wanted, at) in &self.paths {
            let (message, help) = match (wanted, entry(path)) {
                (Use::Context, Entry::Missing) => (
                    format!("the repo has no folder `{path}` to build from"),
                    "a context is relative to the root of the repo, and what git ignores is not in it"
                        .to_owned(),
                ),
                (Use::Context, Entry::File) => (
                    format!("`{path}` is a file, and the context of a build is a folder"),
                    "write `build: {context: FOLDER, dockerfile: FILE}`, the file relative to the folder"
                        .to_owned(),
                ),
                (Use::Dockerfile { context, is_named }, Entry::Missing)
                    if entry(context) == Entry::Folder =>
                {
                    let help = match is_named {
                        true => format!("`dockerfile` is relative to the context, `{context}`"),
                        false => "add it, or name another one: `build: {dockerfile: …}`".to_owned(),
                    };
                    (format!("the repo has no file `{path}` to build from"), help)
                }
                (Use::Dockerfile { .. }, Entry::Folder) => (
                    format!("`{path}` is a folder, and a Dockerfile is a file"),
                    "`dockerfile` is relative to the context".to_owned(),
                ),
                (Use::Filter, Entry::Folder) => (
                    format!("the pattern `{path}` matches nothing: it names a folder, and only files are compared with it"),
                    format!("write `{path}/**`"),
                ),
                (
                    Use::Context | Use::Dockerfile { .. } | Use::Filter,
                    Entry::Missing | Entry::Folder | Entry::File | Entry::Unknown,
                ) => continue,
            };
            sink.error(DiagnosticCode::InvalidValue, at.clone(), message)
                .help(help);
        }
        sink.finish()
    }

    /// The fault of a file, whose text this is, with the DAG name of the file `other`: of two files of a repo with one
    /// name, the first in the order of their paths counts.
    #[must_use]
    pub fn name_taken(&self, text: &str, name: &DagName, other: &str) -> Vec<Diagnostic> {
        let mut sink = Sink::new(text);
        let message = format!("{other} defines a DAG named `{name}` already");
        sink.error(DiagnosticCode::Conflict, self.named_at.clone(), message)
            .help("give one of them another name");
        sink.finish()
    }

    /// Warnings of a file, whose text this is, about pools that are not `defined` by the daemon that `whose`
    /// names, or have fewer slots than a stage takes. The file itself is right: an operator may change them.
    #[must_use]
    pub fn pool_warnings(
        &self,
        text: &str,
        whose: &str,
        defined: &BTreeMap<String, u32>,
    ) -> Vec<Diagnostic> {
        let mut sink = Sink::new(text);
        for (pool, wanted, at) in &self.pools {
            let (message, help) = match defined.get(pool.as_str()) {
                Some(slots) if slots >= wanted => continue,
                Some(slots) => (
                    format!(
                        "`{pool}` has {} at {whose} and the stage takes {wanted}, so it would wait for ever",
                        counted(u64::from(*slots), "slot")
                    ),
                    format!(
                        "take fewer; or an operator raises it in the daemon's configuration: `[pools]`, `{pool} = {wanted}`"
                    ),
                ),
                None => (
                    format!("{whose} defines no pool `{pool}`, so the stage would wait for ever"),
                    match sink.nearest(pool.as_str(), defined.keys().map(String::as_str)) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!(
                            "an operator defines it in the daemon's configuration: `[pools]`, `{pool} = {wanted}`"
                        ),
                    },
                ),
            };
            sink.warning(DiagnosticCode::InvalidValue, at.clone(), message)
                .help(help);
        }
        sink.finish()
    }
}
