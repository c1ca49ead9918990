//! `trainyard metric`

use clap::{Args, Subcommand};
use trainyard_api::MetricSelection;
use trainyard_core::id::RunId;

use crate::commands::run::name::RunName;
use crate::connection::Group;
use crate::failure::Done;
use crate::output::OutputArgs;
use crate::view;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    List(MetricListArgs),
}

/// List metrics, those of the newest runs first
#[derive(Debug, Args)]
pub(crate) struct MetricListArgs {
    /// A run, by its number or as `latest`; or a DAG, by its name
    #[arg(value_name = "RUN|DAG", conflicts_with = "dag")]
    of: Option<String>,

    /// Only those of this DAG: REPO/NAME, or NAME if only one repo has it
    #[arg(long)]
    dag: Option<String>,

    /// Only those of stages with this name
    #[arg(long)]
    stage: Option<String>,

    /// Only those with this name
    #[arg(long)]
    name: Option<String>,

    /// At most this many
    #[arg(long, default_value_t = 200)]
    limit: u32,

    #[command(flatten)]
    output: OutputArgs,
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        let Verb::List(list) = self.verb;
        let run = match list.of.as_deref() {
            Some("latest") => Some(RunName::Latest.number(&client).await?),
            of => of.and_then(|of| of.parse::<RunId>().ok()).map(|run| run.0),
        };
        let dag = list.of.filter(|_| run.is_none()).or(list.dag);
        let selection = MetricSelection {
            run,
            dag,
            stage: list.stage,
            name: list.name,
            limit: Some(list.limit),
        };
        let metrics = client.metrics(&selection).await?;
        let table = || view::metric::list(&metrics.items, list.output.screen());
        list.output.show(&metrics, table)
    }
}
