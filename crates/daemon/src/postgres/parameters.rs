//! Parameters of the private Postgres: small, durable, and reachable by its socket only.
//!
//! The daemon passes them at each start instead of writing them into the cluster's files:
//! 1. The parameters of a newer Trainyard apply at once.
//! 2. Root writes no file where another user could have put a link.

use std::path::Path;

/// The parameters, with a comment where the reason is not obvious.
const PARAMETERS: [(&str, &str); 22] = [
    // No TCP at all.
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("port", "5432"),
    // One daemon: its pool, a few more connections, and a user with psql.
    ("max_connections", "50"),
    ("shared_buffers", "64MB"),
    ("work_mem", "8MB"),
    ("maintenance_work_mem", "64MB"),
    // Statements are short: parallel workers and JIT compilation would only cost memory.
    ("max_worker_processes", "2"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("autovacuum_max_workers", "2"),
    // There is no replication, so the write-ahead log can stay small.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "512MB"),
    ("checkpoint_timeout", "15min"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("log_min_messages", "warning"),
    // The daemon logs failed statements itself, with their context.
    ("log_min_error_statement", "panic"),
    ("logging_collector", "off"),
    ("timezone", "UTC"),
];

/// The arguments of `postgres`, quoted for the shell that pg_ctl uses.
pub(super) fn command_line(sockets: &Path) -> String {
    // The value is a list of folders; double quotes make it one folder, whatever characters it has.
    let folder = format!("\"{}\"", sockets.display().to_string().replace('"', "\"\""));
    PARAMETERS
        .into_iter()
        .chain([("unix_socket_directories", folder.as_str())])
        .map(|(name, value)| format!("-c {}", quoted(&format!("{name}={value}"))))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_quotes() {
        let line = command_line(Path::new("/a'; touch x; '/\"b"));
        assert!(
            line.ends_with(r#"-c 'unix_socket_directories="/a'\''; touch x; '\''/""b"'"#),
            "{line}"
        );
    }

    #[test]
    fn data_is_durable_and_there_is_no_access_by_network() {
        let line = command_line(Path::new("/s"));
        for part in [
            "'listen_addresses='",
            "'fsync=on'",
            "'synchronous_commit=on'",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}
