//! Limits against hostile files. Each is far beyond what people write by hand.

/// The largest file, in bytes.
pub const FILE_LARGEST: usize = 1 << 20;

/// The deepest nesting of lists and maps.
pub const DEEPEST: usize = 64;

/// The most nodes after aliases were put in place: what stops a billion laughs.
pub const NODES_AT_MOST: usize = 200_000;

/// The most diagnostics that are told; one more says how many there were.
pub const DIAGNOSTICS_AT_MOST: usize = 100;
