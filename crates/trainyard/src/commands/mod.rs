//! The commands, one file per noun. Each reads its arguments, calls the daemon or a library, and prints the answer as
//! [`crate::view`] formats it.

pub(crate) mod artifact;
pub(crate) mod audit;
pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod dag;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod fail_points;
pub(crate) mod gc;
pub(crate) mod git_worker;
pub(crate) mod graph;
pub(crate) mod init;
pub(crate) mod metric;
pub(crate) mod quarantine;
pub(crate) mod repo;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod validate;
