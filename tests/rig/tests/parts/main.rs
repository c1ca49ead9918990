//! The rig's own parts do what they say: a fault that does not strike proves nothing.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot go on fails, with the place and the error"
)]

mod cluster;
mod engine;
mod proxy;
