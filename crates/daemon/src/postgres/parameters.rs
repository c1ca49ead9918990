//! What the private Postgres is told: small, durable, and reached by its socket only.
//!
//! The parameters are given at each start instead of being written into the cluster's files, so that
//! a newer Trainyard's apply, and so that root writes no file where another user could have put a link.

use std::path::Path;

/// Each with its reason, where it has one of its own.
const PARAMETERS: [(&str, &str); 22] = [
    // No TCP at all.
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("port", "5432"),
    // One daemon: its pool, a few more of its own, and somebody with psql.
    ("max_connections", "50"),
    ("shared_buffers", "64MB"),
    ("work_mem", "8MB"),
    ("maintenance_work_mem", "64MB"),
    // Statements are short; workers and compilation only cost memory.
    ("max_worker_processes", "2"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("autovacuum_max_workers", "2"),
    // Nobody replicates from here; that keeps the log small.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "512MB"),
    ("checkpoint_timeout", "15min"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("log_min_messages", "warning"),
    // The daemon reports failed statements, with what it was doing.
    ("log_min_error_statement", "panic"),
    ("logging_collector", "off"),
    ("timezone", "UTC"),
];

/// The arguments of `postgres`, quoted for the shell that pg_ctl puts between.
pub(super) fn command_line(sockets: &Path) -> String {
    // The value is a list of folders; double quotes make one of it, whatever is in it.
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
    fn data_is_safe_and_nobody_gets_in_by_network() {
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
