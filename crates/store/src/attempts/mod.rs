//! Attempts: claims, progress, ends, adoption.
//!
//! An attempt belongs to the daemon that claimed it, until that daemon's lease expires. Every claim takes a new
//! fence, and every write for the attempt carries it.

pub(crate) mod abandon;
pub(crate) mod adopt;
pub(crate) mod assemble;
pub(crate) mod claim;
pub(crate) mod finish;
pub(crate) mod holding;
pub(crate) mod progress;
pub(crate) mod sweep;
