//! Limits against hostile files. Each is far beyond what people write by hand. With them, reading takes time
//! and memory in proportion to the file's size, and the largest file takes some tens of milliseconds.

/// The largest file, in bytes.
pub const FILE_LARGEST: usize = 1 << 20;

/// The deepest nesting of lists and maps, aliases in place.
pub const DEEPEST: usize = 64;

/// The most nodes after aliases were put in place: what stops a billion laughs.
pub const NODES_AT_MOST: usize = 200_000;

/// The most text after aliases were put in place, in bytes: what stops one long text that is repeated.
pub const TEXT_AT_MOST: usize = 4 * FILE_LARGEST;

/// The most entries of one list or map, but for stages.
pub const ENTRIES_AT_MOST: usize = 1_000;

/// The most variables of all stages together, those of the DAG counted once for each stage, since each has
/// them; and the most bytes of their names and values.
pub const VARIABLES_AT_MOST: usize = 100_000;

/// See [`VARIABLES_AT_MOST`].
pub const VARIABLES_LARGEST: usize = 8 * FILE_LARGEST;

/// The most diagnostics that are reported; one more says how many there were.
pub const DIAGNOSTICS_AT_MOST: usize = 100;

/// The most diagnostics that are kept while a file is read, to be put in order. Those beyond are counted.
pub(crate) const DIAGNOSTICS_KEPT: usize = 1_000;
