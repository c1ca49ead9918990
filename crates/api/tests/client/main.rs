//! The client against a small server that plays the daemon.

mod follow;
mod requests;
mod server;
