//! `trainyard run`

mod events;
pub(crate) mod follow;
mod list;
mod logs;
pub(crate) mod name;
mod watch;

use clap::{Args, Subcommand};
use trainyard_api::{CancelRuns, Client, ClientError, Listing, RetryRequest, RunsCancelled};
use trainyard_core::id::RunId;
use trainyard_core::measure::counted;

use crate::commands::dag::started_line;
use crate::commands::run::name::RunName;
use crate::connection::Group;
use crate::failure::{Done, Failure, Problem};
use crate::output::{self, OutputArgs};
use crate::view::log::LineFormat;
use crate::view::plain;
use crate::{clock, view};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    List(list::RunListArgs),
    /// Show a run: its stages with their states, times, reasons and metrics
    Show(RunArgs),
    Logs(logs::Logs),
    Watch(watch::Watch),
    Cancel(CancelArgs),
    Abandon(Abandon),
    Retry(RetryArgs),
    /// Explain each stage's state: what it is waiting for, or why it ended
    Why(RunArgs),
    Events(events::Events),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    #[command(flatten)]
    output: OutputArgs,
}

/// Cancel runs. Stages with `run_on: [always]` still run; cancel again to stop those as well
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The runs' numbers
    #[arg(
        value_name = "RUN",
        required_unless_present = "repo",
        conflicts_with = "repo"
    )]
    runs: Vec<RunId>,

    /// All unfinished runs of this repo
    #[arg(long)]
    repo: Option<String>,

    /// Only those of this DAG of the repo
    #[arg(long, requires = "repo")]
    dag: Option<String>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Mark stages as lost when their container can no longer be reached
///
/// This applies to stages that were asked to stop at least a minute ago and have not ended because their Docker
/// engine does not answer, and to stages whose daemon is gone while no other daemon reaches its Docker engine. Once a
/// daemon reaches that Docker engine again, it removes their containers. A run that was not cancelled retries these
/// stages, as its retry rules say.
#[derive(Debug, Args)]
pub(crate) struct Abandon {
    /// The run's number
    run: RunId,

    #[command(flatten)]
    output: OutputArgs,
}

/// Retry a run with the same parameters, at the same commit or with other code
///
/// This starts a new run, which reuses the results of stages that need not run again. At another commit (--ref,
/// --latest), these are the stages that succeeded and whose definition in the DAG file, Dockerfile and inputs have
/// not changed. Changes to other files do not count: give the first stage that they affect with --from.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    /// Only the stages that did not succeed, and all after them
    #[arg(long, conflicts_with = "from")]
    from_failed: bool,

    /// This stage and all after it, and the stages before it that did not succeed
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,

    /// Resume the run at this branch, tag or commit
    #[arg(long = "ref", value_name = "REF", conflicts_with = "latest")]
    reference: Option<String>,

    /// Resume the run at the newest commit of its branch
    #[arg(long)]
    latest: bool,

    /// An idempotency key: a second request with the same key starts no second run
    #[arg(long, value_name = "KEY")]
    request: Option<String>,

    /// Show the logs as they are written, to the end of the run
    #[arg(short, long, conflicts_with = "output")]
    follow: bool,

    #[command(flatten)]
    output: OutputArgs,
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::List(list) => list.call(&client).await,
            Verb::Show(RunArgs { run, output }) => {
                let run = client.run(run.number(&client).await?).await?;
                output.show(&run, || {
                    view::run::show(&run, clock::now(), output.screen())
                })
            }
            Verb::Logs(logs) => logs.call(&client).await,
            Verb::Watch(watch) => watch.call(&client).await,
            Verb::Cancel(cancel) => cancel.call(&client).await,
            Verb::Abandon(Abandon { run, output }) => {
                let run = client.abandon(run.0).await?;
                output.show(&run, || view::run::title(&run, clock::now()))
            }
            Verb::Retry(args) => {
                let retry = RetryRequest {
                    from_failed: args.from_failed,
                    from: args.from,
                    reference: args.reference,
                    latest: args.latest,
                    request: args.request,
                };
                let started = client
                    .retry(args.run.number(&client).await?, &retry)
                    .await?;
                match args.follow {
                    true => follow::started(&client, &started).await,
                    false => args.output.show(&started, || started_line(&started)),
                }
            }
            Verb::Why(RunArgs { run, output }) => {
                let run = client.run(run.number(&client).await?).await?;
                output.show(&run, || view::run::why(&run))
            }
            Verb::Events(events) => events.call(&client).await,
        }
    }
}

impl CancelArgs {
    async fn call(self, client: &Client) -> Done {
        // A second request for the same run would stop its clean-up as well.
        let mut runs: Vec<RunId> = Vec::new();
        for run in self.runs {
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
        match (self.repo, runs.as_slice()) {
            (Some(repo), _) => cancel_all(client, &repo, self.dag, self.output).await,
            (None, [run]) => {
                let run = client.cancel(run.0).await?;
                let title = || view::run::title(&run, clock::now());
                self.output.show(&run, title)
            }
            (None, runs) => cancel_each(client, runs, self.output).await,
        }
    }
}

/// Cancels several runs. A refusal, such as for a run that has ended, does not stop the others from being cancelled.
async fn cancel_each(client: &Client, runs: &[RunId], output: OutputArgs) -> Done {
    let (mut cancelled, mut refused, mut is_unknown) = (Vec::new(), 0, false);
    for run in runs {
        match client.cancel(run.0).await {
            Ok(run) => cancelled.push(run),
            Err(ClientError::Refused {
                status: status @ (404 | 409),
                body,
            }) => {
                output::complain(&body.message);
                refused += 1;
                is_unknown |= status == 404;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let cancelled = Listing::whole(cancelled);
    output.show(&cancelled, || {
        let titles = cancelled.items.iter();
        let titles = titles.map(|run| view::run::title(run, clock::now()));
        titles.collect::<Vec<_>>().join("\n")
    })?;
    if refused > 0 {
        let all = runs.len();
        let problem = Problem::new(format!("{refused} of {all} runs could not be cancelled"));
        return Err(match is_unknown {
            true => Failure::NotFound(problem),
            false => Failure::Refused(problem),
        });
    }
    Ok(())
}

/// Cancels all unfinished runs of a repo.
async fn cancel_all(client: &Client, repo: &str, dag: Option<String>, output: OutputArgs) -> Done {
    let what = match &dag {
        Some(dag) => format!("{repo}/{dag}"),
        None => repo.to_owned(),
    };
    let mut which = CancelRuns { dag, before: None };
    let mut cancelled = RunsCancelled::default();
    loop {
        let some = client.cancel_runs(repo, &which).await?;
        which.before = some.runs.last().copied();
        cancelled.runs.extend(some.runs);
        if !some.more || which.before.is_none() {
            break;
        }
    }
    output.show(&cancelled, || match cancelled.runs.len() as u64 {
        0 => format!("all runs of {} have ended", plain(&what)),
        count => format!("cancelled {} of {}", counted(count, "run"), plain(&what)),
    })
}

/// The format of logs on the present output.
pub(crate) fn log_format(timestamps: bool) -> LineFormat {
    LineFormat {
        timestamps,
        colours: output::has_colours(),
        terminal: output::is_terminal(),
    }
}
