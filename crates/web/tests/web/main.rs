//! The HTTP server on a real Postgres, through its router or through a socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails there, with the error"
)]

mod answers;
mod artifacts;
mod class_01_forged_webhooks;
mod class_03_secrets_are_not_compared_with_equals;
mod class_04_unauthenticated_bodies;
mod class_05_closed_by_default;
mod class_07_scopes;
mod class_22_no_change_by_get;
mod contract;
mod dags;
mod kit;
mod repo_changes;
mod schema;
mod ssh_repos;
