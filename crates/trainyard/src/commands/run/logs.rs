//! `trainyard run logs`

use std::time::Duration;

use clap::Args;
use trainyard_api::{Client, RunDetail};
use trainyard_core::id::RunId;

use crate::commands::run::{follow, look};
use crate::failure::{Done, Failure, Problem};
use crate::output;
use crate::view::log::Printer;

/// Print what stages wrote, of the last attempt of each
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The run's number
    run: RunId,

    /// Only of this stage
    stage: Option<String>,

    /// Go on with what is still being written, to the end of the run
    #[arg(short, long)]
    follow: bool,

    /// Another attempt than the last one
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "stage",
        conflicts_with = "follow"
    )]
    attempt: Option<u32>,

    /// Begin lines with their time
    #[arg(short, long)]
    timestamps: bool,
}

impl Logs {
    pub(crate) async fn call(self, client: &Client) -> Done {
        let stage = self.stage.as_deref();
        if self.follow {
            follow::logs(client, self.run.0, stage, self.timestamps).await?;
            return Ok(());
        }
        let run = client.run(self.run.0).await?;
        let stages = chosen(&run, stage)?;
        let mut printer = Printer::new(look(self.timestamps), &stages);
        for stage in &stages {
            let mut offset = 0;
            loop {
                let page = client
                    .log(self.run.0, stage, self.attempt, offset, Duration::ZERO)
                    .await?;
                output::raw(printer.page(stage, &page).as_bytes())?;
                let nothing_more = page.lines.is_empty() && page.dropped_bytes == 0;
                if page.complete || nothing_more {
                    break;
                }
                offset = page.next_offset;
            }
        }
        Ok(())
    }
}

/// The stages whose logs are wanted: one by name, or all.
pub(super) fn chosen(run: &RunDetail, stage: Option<&str>) -> Result<Vec<String>, Failure> {
    let names = run.stages.iter().map(|stage| stage.name.clone());
    let Some(wanted) = stage else {
        return Ok(names.collect());
    };
    let names: Vec<String> = names.collect();
    if names.iter().any(|name| name == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    let run = run.summary.id;
    let problem = Problem::new(format!("run {run} has no stage {wanted}"));
    Err(Failure::Refused(
        problem.help(format!("it has {}", names.join(", "))),
    ))
}
