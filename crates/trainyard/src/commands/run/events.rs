//! `trainyard run events`

use std::io;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use trainyard_api::{Client, ClientError, Listing, RunEvent};

use crate::commands::run::follow;
use crate::commands::run::name::RunName;
use crate::failure::Done;
use crate::output::{self, Format, OutputArgs};
use crate::view;

/// Show the events of a run, in order
///
/// Starts and ends, stop requests, and adoptions by other daemons, with outcomes and reasons.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    /// Follow the events to the end of the run: one line for each event, as text or JSON
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    output: OutputArgs,
}

impl Events {
    pub(crate) async fn call(self, client: &Client) -> Done {
        let run = self.run.number(client).await?;
        if self.follow {
            let printed = printed(client, run, self.output);
            let again = format!("trainyard run events {run} --follow");
            return follow::to_the_end(run, &again, printed).await;
        }
        let events = history(client, run).await?;
        let screen = self.output.screen();
        self.output
            .show(&events, || view::event::list(&events.items, screen))
    }
}

/// Prints events as they arrive.
async fn printed(client: &Client, run: i64, output: OutputArgs) -> Done {
    let mut events = pin!(client.follow_events(run));
    while let Some(some) = events.next().await {
        for event in some? {
            let line = match output.output {
                Format::Table => view::event::line(&event, output.zone()),
                Format::Json => serde_json::to_string(&event).map_err(io::Error::from)?,
            };
            output::text(&line)?;
        }
    }
    Ok(())
}

/// All events so far, joined from their pages.
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
