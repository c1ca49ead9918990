//! The one TLS provider of the process.

/// Makes `ring` rustls' provider. Call it first in `main`, and in tests that speak HTTP: clients panic
/// without a provider. Calling it again changes nothing.
pub fn install_provider() {
    // The error says that there is one already, and no other is built into this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
