//! Content of runs: artifacts, the blobs behind them, and logs.

pub(crate) mod artifacts;
pub(crate) mod blob_folder;
pub(crate) mod blobs;
pub(crate) mod logs;
pub(crate) mod sweep;
