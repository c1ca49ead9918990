//! `trainyard run events`

use std::time::Duration;

use clap::Args;
use trainyard_api::{Client, ClientError, Listing, RunEvent};
use trainyard_core::id::RunId;

use crate::failure::Done;
use crate::output::{self, OutputArgs};
use crate::view;

/// Tell what happened to one, in order
///
/// Starts and ends, requests to stop, and attempts that another daemon took over; with outcomes and reasons.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The run's number
    run: RunId,

    #[command(flatten)]
    output: OutputArgs,
}

impl Events {
    pub(crate) async fn call(self, client: &Client) -> Done {
        let events = history(client, self.run.0).await?;
        self.output.show(&events, || {
            view::event::list(&events.items, output::width())
        })
    }
}

/// All that is known so far, put together from its pages.
async fn history(client: &Client, id: i64) -> Result<Listing<RunEvent>, ClientError> {
    let mut events: Vec<RunEvent> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.id);
        let page = client.events(id, after, Duration::ZERO).await?;
        let has_more = page.more && !page.items.is_empty();
        events.extend(page.items);
        if !has_more {
            return Ok(Listing::whole(events));
        }
    }
}
