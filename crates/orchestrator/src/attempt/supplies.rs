//! What an attempt needs from elsewhere: its source tree, inputs and secrets.
//!
//! Only a container that is to be made needs them. One that was started has them inside: it is watched to its end
//! whatever has become of remotes, artifacts and secrets since.

use std::future::Future;

use trainyard_core::outcome::Reason;
use trainyard_core::render::RenderedStage;

use crate::attempt::assignment::Materials;
use crate::attempt::mask::Masker;

/// What can be had for one attempt.
pub trait Supplies: Send {
    /// What hides the attempt's secrets in all that it prints.
    fn masker(&self) -> impl Future<Output = Masker> + Send;

    /// Fetches all that a container is made with.
    ///
    /// # Errors
    /// Why it cannot be had; that ends the attempt.
    fn fetch(self) -> impl Future<Output = Result<(RenderedStage, Materials), Reason>> + Send;
}

/// What is there already, or known not to be.
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
