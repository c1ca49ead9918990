//! The limits for peers of the HTTP server.

use serde::Serialize;

use super::faults::Faults;
use super::quantity::Size;
use super::sections::HttpSettings;
use crate::descriptors::CONNECTIONS_LEAST;

/// The largest request of the API, and as much again.
const LEAST_BODIES: Size = Size::mebibytes(2);

/// A quarter is the largest answer. A page of a log with binary data has up to 1.5 MiB.
const LEAST_ANSWERS: Size = Size::mebibytes(8);

/// The limits for peers of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Connections at the same time; `None` is the default.
    pub connections: Option<u32>,
    /// The same, from one address that is not loopback.
    pub connections_per_address: Option<u32>,
    /// Memory of all bodies of requests together.
    pub bodies: Size,
    /// Memory of all answers that have not been read yet.
    pub answers: Size,
}

impl Http {
    pub(super) fn new(given: HttpSettings) -> Self {
        Self {
            connections: given.connections,
            connections_per_address: given.connections_per_address,
            bodies: given.bodies.unwrap_or(Size::mebibytes(64)),
            answers: given.answers.unwrap_or(Size::mebibytes(64)),
        }
    }

    pub(super) fn check(&self, webhook: Size, faults: &mut Faults) {
        faults.require(
            self.connections
                .is_none_or(|count| u64::from(count) >= CONNECTIONS_LEAST),
            format!("http.connections must be at least {CONNECTIONS_LEAST}"),
        );
        faults.require(
            self.connections_per_address != Some(0),
            "http.connections_per_address must be at least 1",
        );
        faults.require(
            // Peers without a token have three quarters, and one address less.
            self.bodies.0 / 2 >= webhook.0 && self.bodies >= LEAST_BODIES,
            format!(
                "http.bodies must be at least {LEAST_BODIES}, and at least twice limits.webhook, which is {webhook}"
            ),
        );
        faults.require(
            self.answers >= LEAST_ANSWERS,
            format!("http.answers must be at least {LEAST_ANSWERS}"),
        );
    }
}
