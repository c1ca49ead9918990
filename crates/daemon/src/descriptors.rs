//! File descriptors: as many as the system allows, with a part reserved for the daemon's own work.
//!
//! Connections from outside get a quarter by default. The rest is for Docker, Postgres, git, logs and artifacts: many
//! peers can slow down the API, but never stop stages.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::config::Http;
use trainyard_web::Connections;

/// With fewer, a busy daemon may run out of them.
pub const FEW: u64 = 256;

/// The default limit of connections.
const CONNECTIONS_USUAL: u64 = 1024;

/// The fewest connections: with fewer, the command line and a page that follows a log would block each other.
pub const CONNECTIONS_LEAST: u64 = 16;

/// Raises the limit of this process to its hard limit, and returns it.
#[must_use]
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return FEW;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return count(hard);
    }
    count(soft)
}

/// The limit that a daemon started here would have.
#[must_use]
pub fn available() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(FEW, |(_, hard)| count(hard))
}

#[expect(
    clippy::useless_conversion,
    reason = "the width of rlim_t depends on the system"
)]
fn count(limit: rlim_t) -> u64 {
    u64::from(limit)
}

/// How many connections a daemon with this many descriptors accepts: at most half of them, whatever is configured.
#[must_use]
pub fn connections(http: &Http, descriptors: u64) -> Connections {
    let usual = (descriptors / 4).min(CONNECTIONS_USUAL);
    let in_all = http
        .connections
        .map_or(usual, |asked| u64::from(asked).min(descriptors / 2))
        .max(CONNECTIONS_LEAST);
    let per_address = http
        .connections_per_address
        .map_or(in_all.div_ceil(4), u64::from)
        .clamp(1, in_all);
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Connections {
        in_all: size(in_all),
        per_address: size(per_address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    fn http(connections: Option<u32>, connections_per_address: Option<u32>) -> Http {
        Http {
            connections,
            connections_per_address,
            bodies: ByteSize::mebibytes(64),
            answers: ByteSize::mebibytes(64),
        }
    }

    fn of(http: &Http, descriptors: u64) -> (usize, usize) {
        let connections = connections(http, descriptors);
        (connections.in_all, connections.per_address)
    }

    #[test]
    fn connections_have_a_quarter_of_the_descriptors_at_most_and_never_more_than_half() {
        assert_eq!(of(&http(None, None), 1024), (256, 64));
        assert_eq!(of(&http(None, None), 1_048_576), (1024, 256));
        assert_eq!(of(&http(None, None), 20), (16, 4));
        assert_eq!(of(&http(Some(4000), None), 1024), (512, 128));
        assert_eq!(of(&http(Some(4000), Some(9000)), 1_048_576), (4000, 4000));
        assert_eq!(of(&http(None, Some(0)), 1024), (256, 1));
    }

    #[test]
    fn the_limit_is_raised_to_what_the_process_may_have() {
        let now = raise();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((count(soft), count(hard)), (now, now));
    }
}
