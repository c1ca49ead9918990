//! The images from which a build starts and copies.

use trainyard_core::image::ImageReference;
use trainyard_core::stage::PullPolicy;

use super::super::Engine;
use super::super::dockerfile::{self, Builder};
use super::super::image::not_allowed;
use crate::error::{Error, ErrorKind};

impl Engine {
    /// Makes the outside images of a build ready, and reads the images that they bring into it. Docker then
    /// finds them locally, and queries no registry itself.
    pub(super) async fn prepare_bases(
        &self,
        images: &dockerfile::Images,
        builder: &Builder,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Vec<(ImageReference, String)>, Error> {
        let prepare = |image: ImageReference| async move {
            let policy = PullPolicy::IfMissing;
            let prepared = self.images.prepare(&self.config, &image, policy, progress);
            let id = prepared.await?.id;
            Ok::<_, Error>((image, id))
        };
        let mut ready = Vec::new();
        for base in &images.bases {
            // Inspect it now: an earlier inspection may have been of another image.
            self.images.forget_name(&base.image.exact());
            let (image, id) = prepare(base.image.clone()).await?;
            let triggers = self.images.triggers(&id).ok_or_else(|| {
                let message =
                    format!("image `{image}` could not be inspected; the build is retried");
                Error::new(ErrorKind::Engine, message)
            })?;
            let copied = dockerfile::read_triggers(&triggers, base, builder).map_err(|fault| {
                let message = format!(
                    "image `{image}` cannot be a base image because of its ONBUILD: {}",
                    fault.message
                );
                Error::new(ErrorKind::ImageBuild, message)
            })?;
            ready.push((image, id));
            for image in copied {
                ready.push(prepare(image).await?);
            }
        }
        for image in &images.copied_from {
            ready.push(prepare(image.clone()).await?);
        }
        for image in &images.mentioned {
            let allowed = self.config.registries.allow(image);
            allowed.map_err(|fault| not_allowed(image, &fault))?;
        }
        Ok(ready)
    }

    /// Docker looks up the images of a build by their names while the build goes on: they have to be the images that
    /// were read. An image built from others is not kept.
    pub(super) async fn recheck_bases(
        &self,
        bases: &[(ImageReference, String)],
        built: &str,
    ) -> Result<(), Error> {
        for (image, id) in bases {
            let now = self.images.inspect(&image.exact()).await?;
            if now.as_ref().map(|now| &now.id) == Some(id) {
                continue;
            }
            self.discard(built).await;
            let message = format!(
                "image `{image}` changed while an image was built from it; the build is retried"
            );
            return Err(Error::new(ErrorKind::ImagePull, message));
        }
        Ok(())
    }
}
