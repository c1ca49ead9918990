//! Trainyard's side of git and of the forges: mirrors of followed repos, and webhook deliveries.
//!
//! [`git`] fetches remotes into bare mirrors and answers questions about commits from the mirror's
//! object database. [`webhook`] says whether a delivery is what it claims to be, and what it tells.
//!
//! A delivery is a hint that it is worth fetching now. What happened to a branch is only ever read
//! from the fetched heads, so a lost, late, doubled or replayed delivery changes nothing. Which runs
//! a moved branch starts is decided elsewhere: this crate knows neither DAGs nor the store, and
//! hands out DAG files as text.

mod checkout;
pub mod git;
mod one_line;
mod tracked;
pub mod webhook;

pub use git::{
    Cancel, ChangedPaths, CommitInfo, CommitSha, Contents, Credentials, DagFileText, Entry, Error,
    FetchLimits, Git, Heads, Login, LookAt, Mirror, Mirrors, NotASha, RemoteUrl, Seen, SshKey,
    StandIns, TreeSha, UrlRules, Worker,
};
pub use tracked::is_tracked;
