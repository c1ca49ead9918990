//! `trainyard dag`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use trainyard_api::Trigger;

use crate::commands::run::follow;
use crate::connection::Group;
use crate::failure::{Done, Failure, Problem};
use crate::input;
use crate::output::{self, OutputArgs};
use crate::view::{self, plain};
use trainyard_core::text::short_commit;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the DAGs
    List {
        /// Only those of this repo
        #[arg(long)]
        repo: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show a DAG: its triggers, limits, parameters, schedules and stages, and faults of its file
    Show(DagArgs),
    Trigger(TriggerArgs),
    /// Pause the triggers of a DAG; it can still be started by hand
    Pause(DagArgs),
    /// Resume the triggers of a DAG
    Unpause(DagArgs),
    /// Remove a DAG that is no longer on the followed branch. Its runs, logs and artifacts are deleted
    ///
    /// Shows how much that is, and asks for confirmation.
    Remove {
        /// REPO/NAME, or NAME if only one repo has it
        dag: String,

        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Show the next ticks of a DAG's schedules
    Next {
        #[command(flatten)]
        one: DagArgs,
        /// How many ticks
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DagArgs {
    /// REPO/NAME, or NAME if only one repo has it
    dag: String,

    #[command(flatten)]
    output: OutputArgs,
}

/// Start a DAG by hand
#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// REPO/NAME, or NAME if only one repo has it
    dag: String,

    /// A parameter
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,

    /// The branch, tag or commit to run; the followed branch without it
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,

    /// An idempotency key: a second request with the same key starts no second run
    #[arg(long, value_name = "KEY")]
    request: Option<String>,

    /// Show the logs as they are written, to the end of the run
    #[arg(short, long, conflicts_with = "output")]
    follow: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Reads `NAME=VALUE`.
pub(crate) fn param(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Parameters as they were given; one that is given twice may be meant either way.
pub(crate) fn each_once(params: Vec<(String, String)>) -> Result<Vec<(String, String)>, Failure> {
    for (place, (name, _)) in params.iter().enumerate() {
        if params[..place].iter().any(|(earlier, _)| earlier == name) {
            let name = plain(name);
            return Err(Failure::usage(format!(
                "parameter `{name}` is given more than once"
            )));
        }
    }
    Ok(params)
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::List { repo, output } => {
                let dags = client.dags(repo.as_deref()).await?;
                output.show(&dags, || view::dag::list(&dags.items, output.screen()))
            }
            Verb::Show(DagArgs { dag, output }) => {
                let dag = client.dag(&dag).await?;
                output.show(&dag, || view::dag::show(&dag, output.screen()))
            }
            Verb::Trigger(args) => {
                let params: BTreeMap<String, serde_json::Value> = each_once(args.params)?
                    .into_iter()
                    .map(|(name, value)| (name, value.into()))
                    .collect();
                let trigger = Trigger {
                    params,
                    reference: args.reference,
                    request: args.request,
                };
                let started = client.trigger(&args.dag, &trigger).await?;
                match args.follow {
                    true => follow::started(&client, &started).await,
                    false => args.output.show(&started, || started_line(&started)),
                }
            }
            Verb::Pause(DagArgs { dag, output }) => {
                let dag = client.pause(&dag, true).await?;
                let line = || format!("{} is paused; it can still be started by hand", dag.dag);
                output.show(&dag, line)
            }
            Verb::Unpause(DagArgs { dag, output }) => {
                let dag = client.pause(&dag, false).await?;
                output.show(&dag, || format!("{} is no longer paused", dag.dag))
            }
            Verb::Remove { dag, yes } => {
                let found = client.dag(&dag).await?.summary;
                let dag = found.dag;
                if found.commit.is_some() {
                    let problem =
                        Problem::new(format!("{dag} is on the followed branch of its repo"));
                    return Err(Failure::Refused(problem.help(format!(
                        "delete {} there first, or pause it with `trainyard dag pause {dag}`",
                        found.path
                    ))));
                }
                let history = client.dag_history(&dag).await?;
                let (repo, name) = dag.split_once('/').unwrap_or_default();
                let cancel = format!("trainyard run cancel --repo {repo} --dag {name}");
                input::agree(yes, &format!("removes DAG {dag}"), &history, &cancel)?;
                client.remove_dag(&dag).await?;
                let history = view::repo::history(&history);
                output::text(&format!("removed DAG {dag}: {history}"))
            }
            Verb::Next {
                one: DagArgs { dag, output },
                count,
            } => {
                let ticks = client.ticks(&dag, count).await?;
                let dag = client.dag(&dag).await?.summary;
                output.show(&ticks, || view::dag::ticks(&ticks.items, output.screen()))?;
                if dag.paused {
                    let name = dag.dag;
                    output::note(&format!(
                        "{name} is paused: its schedules start nothing until `trainyard dag unpause {name}`"
                    ));
                }
                Ok(())
            }
        }
    }
}

/// The result of a request for a run.
pub(crate) fn started_line(started: &trainyard_api::RunStarted) -> String {
    let id = started.id;
    let why = started.why.as_ref().map(|why| format!(": {}", plain(why)));
    let why = why.unwrap_or_default();
    let line = match started.state.as_deref() {
        _ if started.existed => format!("run {id} was started by the same request before"),
        Some("queued") => format!("run {id} is queued{why}"),
        Some("skipped") => format!("run {id} was skipped{why}"),
        Some(_) | None => format!("run {id} started"),
    };
    let of = started.commit.as_ref().map(|hash| {
        let branch = started.branch.as_ref();
        let branch = branch.map(|branch| format!(" of branch {}", plain(branch)));
        format!(
            "commit {}{}",
            short_commit(hash),
            branch.unwrap_or_default()
        )
    });
    let notes = started.notes.iter().map(|note| plain(note));
    std::iter::once(line)
        .chain(of)
        .chain(notes)
        .collect::<Vec<_>>()
        .join(
            "
",
        )
}
