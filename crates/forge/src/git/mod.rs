//! Followed repos: one bare mirror each, fetched with libgit2 and read without a work tree.
//!
//! libgit2 runs no hooks, no helpers and no programs named by a repository's configuration, and this module makes
//! no work tree, expands no submodule and applies no filter. That leaves a hostile remote three ways in, each of
//! which is closed:
//!
//! 1. The address ([`RemoteUrl`]).
//! 2. Sizes and time ([`FetchLimits`] and the bounds of the readers).
//! 3. Names in a tree (`source_tar`).
//!
//! [`Mirror`]'s functions block, and are only to be called where a remote cannot do harm: objects unpack to any size,
//! and libgit2 resolves deltas in memory. [`Git`] runs them in a child process, one for each call, with bounds in
//! memory and time ([`Worker`]); the daemon uses only that.
//!
//! Shallow fetches are not used: the file transport has none, and the paths that a push changed need both of its
//! ends. Only refs are ever removed from a mirror, so the commit of an old run stays readable after a forced push.

mod address;
mod advertised;
mod bounds;
mod cancel;
mod changes;
mod child;
mod commit_sha;
mod contents;
mod credentials;
mod dag_files;
mod entries;
mod error;
mod fetch;
mod ignored;
mod job;
mod kept_modules;
mod lanes;
mod lfs;
mod limits;
mod mirror;
mod modules;
mod objects;
mod odd_files;
mod offload;
mod packed_refs;
mod read_mark;
mod reference;
mod session;
mod settings;
mod source_tar;
mod ssh;
mod stand_ins;
mod transport;
mod tree_of;
mod url;
mod work_tree;
mod worker;

pub use self::url::{RemoteUrl, UrlRules};
pub use cancel::CancelFlag;
pub use changes::{ChangedPaths, MAX_CHANGED_PATHS};
pub use child::serve_one_request;
pub(crate) use commit_sha::is_zero;
pub use commit_sha::{CommitSha, NotASha};
pub use contents::Contents;
pub use credentials::{Credentials, Login, SshKey};
pub use dag_files::{
    DagFileText, LINKED_DAG_FILE, MAX_DAG_BYTES, MAX_DAG_FILE_BYTES, MAX_DAG_FILES, is_dag_file,
};
pub use entries::PathEntry;
pub use error::Error;
pub use fetch::Heads;
pub use ignored::Unignored;
pub use job::{CommitQuery, Seen};
pub use limits::FetchLimits;
pub use mirror::{Mirror, Mirrors};
pub use offload::Git;
pub use read_mark::ReadMark;
pub use reference::CommitInfo;
pub use source_tar::{MAX_BYTES, MAX_NAMES};
pub use stand_ins::{Named, StandIns};
pub use tree_of::TreeSha;
pub use work_tree::{CheckedOut, WorkTree};
pub use worker::{USUAL_MEMORY, Worker};
