//! The one TLS provider of the process.

/// Makes `ring` rustls' provider. Call it first in `main`, and in tests that speak HTTP: clients panic
/// without a provider. Calling it again changes nothing.
pub fn install_provider() {
    // The error means that a provider is installed already. This program contains no other one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
