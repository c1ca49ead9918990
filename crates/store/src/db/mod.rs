//! How this crate uses Postgres: pools, batched writes, notifications, errors, and the stored forms of core types.

pub(crate) mod batch;
pub(crate) mod encoding;
pub(crate) mod error;
pub(crate) mod notify;
pub(crate) mod options;
pub(crate) mod pool;
pub(crate) mod recent;
pub(crate) mod refusal;
pub(crate) mod report_pace;
pub(crate) mod topics;
pub(crate) mod wakes;
