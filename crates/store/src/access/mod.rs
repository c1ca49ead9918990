//! Tokens and secrets, the key that seals secrets, and the audit log.

pub(crate) mod audit;
pub(crate) mod seal;
pub(crate) mod secrets;
pub(crate) mod tokens;
