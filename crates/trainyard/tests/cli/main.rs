//! The binary as users and scripts call it: its output, on which stream, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod artifacts;
mod binary;
mod connecting;
mod daemon;
mod files;
mod help;
mod history;
mod init;
mod listings;
mod logs;
mod repos;
mod routes;
mod secrets;
mod watching;
