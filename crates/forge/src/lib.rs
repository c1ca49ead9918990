//! Trainyard's side of git and of the forges: mirrors of followed repos, and webhook deliveries.
//!
//! [`git`] fetches remotes into bare mirrors and answers questions about commits from the mirror's object database.
//! [`webhook`] verifies deliveries and reads them.
//!
//! A delivery is only a hint to fetch now. Changes of a branch are only ever read from the fetched heads, so a lost,
//! late, doubled or replayed delivery changes nothing. Other crates decide which runs a moved branch starts: this
//! crate knows neither DAGs nor the store, and returns DAG files as text.

mod checkout;
pub mod git;
mod one_line;
mod tracked;
pub mod webhook;

pub use git::{
    CancelFlag, ChangedPaths, CommitInfo, CommitQuery, CommitSha, Contents, Credentials,
    DagFileText, Error, FetchLimits, Git, Heads, Login, Mirror, Mirrors, NotASha, PathEntry,
    ReadMark, RemoteUrl, Seen, SshKey, StandIns, TreeSha, UrlRules, Worker,
};
pub use tracked::is_tracked;
