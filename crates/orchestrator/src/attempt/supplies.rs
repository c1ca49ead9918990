//! The external inputs of an attempt: its source tree, inputs and secrets.
//!
//! They are needed only to create a container. A started container has them inside: it is watched to its end even if
//! its remote, artifacts or secrets are gone.

use std::future::Future;

use trainyard_core::outcome::Reason;
use trainyard_core::render::RenderedStage;

use crate::attempt::assignment::Materials;
use crate::attempt::mask::Masker;

/// The supplies of one attempt.
pub trait Supplies: Send {
    /// The masker of the attempt's secrets in everything that it prints.
    fn masker(&self) -> impl Future<Output = Masker> + Send;

    /// Fetches everything that the container is created with.
    ///
    /// # Errors
    /// The reason why it cannot be fetched, which ends the attempt.
    fn fetch(self) -> impl Future<Output = Result<(RenderedStage, Materials), Reason>> + Send;
}

/// Supplies that are available already, or known not to be.
impl Supplies for Result<(RenderedStage, Materials), Reason> {
    async fn masker(&self) -> Masker {
        match self {
            Ok((_, materials)) => materials.masker().await,
            Err(_) => Masker::default(),
        }
    }

    async fn fetch(self) -> Self {
        self
    }
}
