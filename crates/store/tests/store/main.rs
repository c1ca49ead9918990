//! The promises of the store, on a real Postgres. One file for each aggregate, one test for each promise.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

mod abandonment;
mod adoption;
mod audit;
mod blobs;
mod claims;
mod connecting;
mod formats;
mod health;
mod history;
mod invariants;
mod kit;
mod leaders;
mod listings;
mod logs;
mod migrations;
mod outputs;
mod overlap;
mod pushes;
mod quarantine;
mod refusals;
mod repos;
mod retention;
mod retries;
mod runs;
mod schedules;
mod secrets;
