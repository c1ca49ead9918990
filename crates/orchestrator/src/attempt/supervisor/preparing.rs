//! Prepares an attempt's image in bounded time, and writes the output of the build or pull into the log meanwhile.

use std::time::Duration;

use trainyard_core::event::AttemptEnd;
use trainyard_core::measure::in_words;
use trainyard_core::render::RenderedImage;
use trainyard_executor::{Attempts, Error, ErrorKind, ImageRequest, PreparedImage};

use super::Attempt;
use super::endings::{ended, ending_of};
use super::said::Said;
use crate::attempt::ledger::{FencedOff, Ledger};
use crate::attempt::log_pump::LogPump;
use crate::clock;

/// How long it may take if the stage has no timeout. Compiling for GPUs takes hours.
const AT_MOST: Duration = Duration::from_secs(6 * 3600);

/// How long it may take however short the stage's timeout is: a timeout of seconds suits a program, but not the pull
/// of a large image or a restart of Docker.
const AT_LEAST: Duration = Duration::from_secs(10 * 60);

impl<E: Attempts, L: Ledger> Attempt<'_, E, L> {
    /// How long an attempt may take for its image, and again for its outputs: `timeout` is for its program alone.
    pub(super) fn time_beside_its_program(&self) -> Duration {
        let own = self.assignment.stage().program().timeout;
        let most = self.surroundings.ceilings.timeout;
        let timeout = own.or(most.filter(|most| *most < AT_MOST));
        timeout.map_or(AT_MOST, |timeout| timeout.max(AT_LEAST))
    }

    /// Prepares the image, or returns how the attempt ends without it.
    pub(super) async fn prepare(
        &self,
        request: &ImageRequest,
        pump: &mut LogPump,
    ) -> Result<Result<PreparedImage, AttemptEnd>, FencedOff> {
        let executor = &self.surroundings.executor;
        let limit = self.time_beside_its_program();
        let builds = matches!(request.image, RenderedImage::Build { .. });
        let said = Said::default();
        let progress = |text: String| said.push(clock::now(), text);
        let preparing = async {
            // On the heap, since on the stack each such call is part of the next.
            let call = self.patiently(|| Box::pin(executor.prepare(request, &progress)));
            let prepared = tokio::select! {
                prepared = tokio::time::timeout(limit, call) => {
                    prepared.unwrap_or_else(|_| Err(ended(ending_of(&late(request, limit)))))
                }
                ending = self.surroundings.layers.until_no_room_to_build(), if builds => Err(ended(ending)),
            };
            said.end();
            Ok(prepared)
        };
        // Concurrently: a log that cannot be written delays neither the build nor its end.
        let passing_on = Box::pin(self.pass_on(&said, pump));
        let (prepared, ()) = tokio::try_join!(Box::pin(preparing), passing_on)?;
        Ok(prepared)
    }

    /// Writes the buffered lines. The last of them go into the next batch, which may be the program's.
    async fn pass_on(&self, said: &Said, pump: &mut LogPump) -> Result<(), FencedOff> {
        while said.gather().await {
            for (at, text) in said.take() {
                pump.say_now(at, &text, self.ledger).await?;
            }
            pump.flush(self.ledger).await?;
        }
        for (at, text) in said.take() {
            pump.say_now(at, &text, self.ledger).await?;
        }
        Ok(())
    }
}

fn late(request: &ImageRequest, limit: Duration) -> Error {
    let limit = in_words(limit);
    let (kind, what) = match &request.image {
        RenderedImage::Build { .. } => (
            ErrorKind::ImageBuild,
            "the image could not be built: the build".to_owned(),
        ),
        RenderedImage::Reference { image, .. } => (
            ErrorKind::ImagePull,
            format!("image `{image}` could not be fetched: that"),
        ),
        RenderedImage::OfStage { image, .. } => (
            ErrorKind::ImagePull,
            format!("image `{image}` could not be fetched: that"),
        ),
    };
    let message =
        format!("{what} took longer than {limit}; to permit more, raise the stage's `timeout`");
    Error::new(kind, message)
}
