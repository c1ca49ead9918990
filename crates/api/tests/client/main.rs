//! The client against a small server that plays the daemon.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod follow;
mod requests;
mod server;
