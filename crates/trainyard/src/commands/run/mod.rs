//! `trainyard run`

mod events;
pub(crate) mod follow;
mod list;
mod logs;
pub(crate) mod name;
mod watch;

use clap::{Args, Subcommand};
use trainyard_api::{CancelRuns, Client, ClientError, Listing, Retry, RunsCancelled};
use trainyard_core::id::RunId;
use trainyard_core::measure::counted;

use crate::commands::dag::started_line;
use crate::commands::run::name::RunName;
use crate::connection::Connection;
use crate::failure::{Done, Failure, Problem};
use crate::output::{self, OutputArgs};
use crate::view::log::Look;
use crate::view::plain;
use crate::{clock, view};

/// Runs: what happened, and what goes on
#[derive(Debug, Args)]
pub(crate) struct Command {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    /// Show one: its stages with their states, times, reasons and metrics
    Show(One),
    Logs(logs::Logs),
    Watch(watch::Watch),
    Cancel(Cancel),
    Abandon(Abandon),
    Retry(RetryArgs),
    /// Say in a line a stage what it waits for, or why it is as it is
    Why(One),
    Events(events::Events),
}

#[derive(Debug, Args)]
struct One {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    #[command(flatten)]
    output: OutputArgs,
}

/// Stop runs. Stages with `run_on: [always]` still run; asked once more, they are stopped, too
#[derive(Debug, Args)]
struct Cancel {
    /// The runs' numbers
    #[arg(
        value_name = "RUN",
        required_unless_present = "repo",
        conflicts_with = "repo"
    )]
    runs: Vec<RunId>,

    /// All of this repo that have not ended
    #[arg(long)]
    repo: Option<String>,

    /// Only those of this DAG of the repo
    #[arg(long, requires = "repo")]
    dag: Option<String>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Count stages as lost whose end Docker never reports
///
/// They count as lost: those that were asked to stop a minute ago or longer and have not ended, as their
/// engine does not answer, and those whose daemon is gone without another that reaches its Docker engine. What
/// still runs of them is removed once a daemon reaches their engine again. A run that was not cancelled
/// tries them again, as its retry rules say.
#[derive(Debug, Args)]
struct Abandon {
    /// The run's number
    run: RunId,

    #[command(flatten)]
    output: OutputArgs,
}

/// Run one again with the same parameters, at the same commit or with other code
///
/// It is a new run. Results of stages that need not run again are reused. At another commit (--ref,
/// --latest), these are the results of stages that succeeded and whose definition in the DAG file, Dockerfile and
/// inputs have not changed. Changes of other files do not count: name the first stage that they matter to with
/// --from.
#[derive(Debug, Args)]
struct RetryArgs {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    /// Only what did not succeed, and all after it
    #[arg(long, conflicts_with = "from")]
    from_failed: bool,

    /// This stage and all after it, and what did not succeed before it
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,

    /// Resume it at this branch, tag or commit
    #[arg(long = "ref", value_name = "REF", conflicts_with = "latest")]
    reference: Option<String>,

    /// Resume it at the newest commit of its branch
    #[arg(long)]
    latest: bool,

    /// A key of yours: the same key again starts nothing more
    #[arg(long, value_name = "KEY")]
    request: Option<String>,

    #[command(flatten)]
    output: OutputArgs,
}

impl Command {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::List(list) => list.call(&client).await,
            Verb::Show(One { run, output }) => {
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
                let retry = Retry {
                    from_failed: args.from_failed,
                    from: args.from,
                    reference: args.reference,
                    latest: args.latest,
                    request: args.request,
                };
                let started = client
                    .retry(args.run.number(&client).await?, &retry)
                    .await?;
                args.output.show(&started, || started_line(&started))
            }
            Verb::Why(One { run, output }) => {
                let run = client.run(run.number(&client).await?).await?;
                output.show(&run, || view::run::why(&run))
            }
            Verb::Events(events) => events.call(&client).await,
        }
    }
}

impl Cancel {
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

/// Cancels several runs. One that is refused, since it has ended, keeps no other from being cancelled.
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

/// Cancels all runs of a repo that have not ended.
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

/// How logs look where they are printed now.
pub(crate) fn look(timestamps: bool) -> Look {
    Look {
        timestamps,
        colours: output::has_colours(),
        terminal: output::is_terminal(),
    }
}
