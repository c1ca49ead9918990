//! The rig's own parts do what they say: a fault that does not strike proves nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

mod cluster;
mod engine;
mod proxy;
