//! The promises of the crate, on real repositories, over files and over http.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod class_03_signatures_take_equal_time;
mod class_13_costly_remotes;
mod fetching;
mod http;
mod lfs;
mod references;
mod remote;
mod server;
mod source_archives;
mod ssh;
mod sshd;
mod submodules;
mod trees;
mod webhooks;
