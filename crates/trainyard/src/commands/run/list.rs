//! `trainyard run list`

use clap::Args;
use clap::builder::PossibleValuesParser;
use trainyard_api::{Client, RunSelection};
use trainyard_core::id::RunId;
use trainyard_core::outcome::RunState;

use crate::failure::Done;
use crate::output::{self, OutputArgs};
use crate::time_arg::{self, TimeArg};
use crate::{clock, view};

/// List runs, the newest first
#[derive(Debug, Args)]
pub(crate) struct RunListArgs {
    /// Only those of this DAG: REPO/NAME, or NAME if only one repo has it
    #[arg(long)]
    dag: Option<String>,

    /// Only those of this repo
    #[arg(long)]
    repo: Option<String>,

    /// Only those of this branch
    #[arg(long)]
    branch: Option<String>,

    /// Only those of this commit: its hash, or the beginning of it
    #[arg(long, value_name = "HASH")]
    commit: Option<String>,

    /// Only those in this state; give several with commas between them, or repeat the option
    #[arg(
        long = "state",
        value_name = "STATE",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(RunState::ALL.map(RunState::as_str))
    )]
    states: Vec<String>,

    /// Only those created since: a time ago (`2h`, `7d`), or a moment (`2026-11-23`, `2026-11-23T15:00`)
    #[arg(long, value_name = "TIME", value_parser = time_arg::parse)]
    since: Option<TimeArg>,

    /// Only those older than this run
    #[arg(long, value_name = "RUN")]
    before: Option<RunId>,

    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    #[command(flatten)]
    output: OutputArgs,
}

impl RunListArgs {
    pub(crate) async fn call(self, client: &Client) -> Done {
        let screen = self.output.screen();
        let since = self.since.map(|since| since.moment("--since", screen.zone));
        let query = RunSelection {
            dag: self.dag,
            repo: self.repo,
            branch: self.branch,
            commit: self.commit,
            states: self.states,
            since: since.transpose()?,
            before: self.before.map(|run| run.0),
            limit: Some(self.limit),
        };
        let runs = client.runs(&query).await?;
        self.output
            .show(&runs, || view::run::list(&runs.items, clock::now(), screen))?;
        if let (true, Some(last)) = (runs.more, runs.items.last())
            && output::is_terminal()
        {
            output::note(&format!("there are more: --before {}", last.id));
        }
        Ok(())
    }
}
