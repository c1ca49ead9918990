//! Content of runs: artifacts, the blobs behind them, and logs.

pub(crate) mod artifacts;
pub(crate) mod blobs;
pub(crate) mod logs;
