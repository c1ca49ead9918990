//! The rig of the fault programme: everything a test needs to break Trainyard's surroundings on
//! purpose, at a moment of its choosing, and to find out afterwards what really happened.
//!
//! - [`proxy::FaultProxy`] stands between a daemon and Postgres or Docker and breaks what passes.
//! - [`engine::PrivateEngine`] and [`cluster::PrivateCluster`] are a dockerd and a Postgres of a
//!   test's own, to be killed, frozen and restarted.
//! - [`failover::Past`] brings a database back as it was some seconds ago; [`crowd::Crowd`] takes all
//!   of its connections; [`clock::Clocks`] are the database's clock and the daemons', to jump.
//! - [`poison`] makes invalid and hostile DAG files.
//! - [`prober::Prober`] keeps asking a daemon for a page, and takes the time.
//! - [`disk::LoopDisk`] is a disk to be filled; [`artifacts`] checks the artifact store after a fault.
//! - [`registry::Registry`] has images to be pulled, and misbehaves on demand.
//! - [`fleet::Fleet`] is several daemons on one database, each behind proxies of its own.
//! - [`witness::Witness`] learns from the stages themselves what ran, and how often: the truth about duplicates never
//!   comes from Trainyard's own records.
//! - [`versions`] names the build under test, and has another version of the program.
//! - [`trials::Trials`] repeats a seeded trial, counts, measures, and keeps what a red one left;
//!   [`programme`] says how many, and [`summary::Summary`] is their row of the table.
//!
//! It is a library for tests only: nothing here is careful with a machine beyond what is its own,
//! and what is missing (root, dockerd, Postgres' programs) fails the test with a sentence.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

pub mod artifacts;
mod base_image;
pub mod bridge;
pub mod clock;
pub mod cluster;
pub mod crowd;
pub mod daemon;
pub mod dice;
mod digest;
pub mod disk;
pub mod engine;
mod evidence;
pub mod failover;
pub mod fleet;
mod histories;
mod journal;
pub mod moment;
mod panics;
pub mod poison;
pub mod prober;
mod processes;
pub mod programme;
pub mod proxy;
pub mod registry;
pub mod summary;
mod trial;
pub mod trials;
mod turns;
pub mod versions;
pub mod witness;
