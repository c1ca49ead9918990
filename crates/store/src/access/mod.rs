//! Tokens and secrets, and the key that seals secrets.

pub(crate) mod seal;
pub(crate) mod secrets;
pub(crate) mod tokens;
