//! The command line as a whole: its commands, and how each is executed.

#[cfg(test)]
mod documentation;

use std::future::Future;
use std::time::Duration;

use clap::error::ContextKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    artifact, audit, completions, daemon, dag, dev, doctor, exec, fail_points, gc, git_worker,
    graph, init, metric, quarantine, repo, run, schema, secret, status, token, validate,
};
use crate::connection::Group;
use crate::failure::{Done, Failure};
use crate::variables::{without_empty_variables, without_variables};

/// How long the process waits at its end for threads that still work.
const LAST_THREADS: Duration = Duration::from_secs(2);

/// Turns a git push or a cron tick into a trained, checked model.
///
/// DAG files live in your repository; every stage runs as a container; runs, logs, metrics and
/// artifacts are kept.
#[derive(Debug, Parser)]
#[command(
    name = "trainyard",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 good, 1 the run failed, 2 wrong usage or an invalid file, 3 the daemon is unreachable \
        or refused, 4 the daemon has no run, DAG, repo or other thing of that name, 130 ended by Ctrl-C."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(Box<dev::Dev>),
    Daemon(Box<daemon::Daemon>),
    Exec(exec::ExecArgs),
    Validate(validate::Validate),
    Graph(graph::Graph),
    Schema(schema::Schema),
    Doctor(Box<doctor::Doctor>),
    Completions(completions::Completions),
    #[command(hide = true)]
    FailPoints(fail_points::FailPoints),
    #[command(hide = true)]
    GitWorker(git_worker::GitWorker),
    Init(init::Init),
    Status(status::StatusArgs),
    /// The git repositories that the daemon follows
    Repo(Group<repo::Verb>),
    /// DAGs: list, start, pause and remove them
    Dag(Group<dag::Verb>),
    /// Runs: list, follow, cancel and retry them
    Run(Group<run::Verb>),
    /// Artifacts: the outputs of stages
    Artifact(Group<artifact::Verb>),
    /// Metrics: numbers that stages reported
    Metric(Group<metric::Verb>),
    /// Secrets: environment variables for the stages that name them
    Secret(Group<secret::Verb>),
    /// Tokens for access to the daemon
    Token(Group<token::Verb>),
    /// The audit log: who changed what, and when
    ///
    /// It has each change that was made through the API or at the start of a daemon: of repos, secrets, tokens, DAGs and
    /// runs. Runs that schedules and pushes start are in `trainyard run list`. Reading it needs a token that may change
    /// things.
    Audit(Group<audit::Verb>),
    /// Quarantine: repos, DAGs and runs that are stopped after repeated failures, with the reason
    ///
    /// A quarantined repo, DAG or run does nothing until it is released, a commit changes its DAG, or its run is
    /// cancelled.
    Quarantine(Group<quarantine::Verb>),
    Gc(gc::Gc),
}

/// Parses the command line. An empty variable counts as not set.
fn read() -> Result<Cli, clap::Error> {
    let command = without_empty_variables(Cli::command());
    let matches = command.try_get_matches().map_err(|error| {
        if error.get(ContextKind::Usage).is_none() {
            return error;
        }
        // clap would add arguments from variables to the usage line, as if they were required.
        let bare = without_variables(Cli::command(), &|_| true);
        bare.try_get_matches().err().unwrap_or(error)
    })?;
    Cli::from_arg_matches(&matches)
}

/// Parses the command line and executes the command.
pub(crate) fn call() -> Done {
    let cli = read().map_err(Failure::CommandLine)?;
    trainyard_failpoint::check().map_err(Failure::usage)?;
    match cli.command {
        Command::Dev(command) => wait(command.call()),
        Command::Daemon(command) => wait(command.call()),
        Command::Exec(command) => wait(command.call()),
        Command::Validate(command) => wait(command.call()),
        Command::Graph(command) => command.call(),
        Command::Schema(command) => command.call(),
        Command::Doctor(command) => wait(command.call()),
        Command::Completions(command) => command.call(),
        Command::FailPoints(command) => command.call(),
        Command::GitWorker(command) => command.call(),
        Command::Init(command) => command.call(),
        Command::Status(command) => wait(command.call()),
        Command::Repo(command) => wait(command.call()),
        Command::Dag(command) => wait(command.call()),
        Command::Run(command) => wait(command.call()),
        Command::Artifact(command) => wait(command.call()),
        Command::Metric(command) => wait(command.call()),
        Command::Secret(command) => wait(command.call()),
        Command::Token(command) => wait(command.call()),
        Command::Audit(command) => wait(command.call()),
        Command::Quarantine(command) => wait(command.call()),
        Command::Gc(command) => wait(command.call()),
    }
}

/// Runs a future to its end.
fn wait(work: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start threads: {error}")))?;
    let done = runtime.block_on(work);
    // Threads that hang are not waited for: their work was abandoned.
    runtime.shutdown_timeout(LAST_THREADS);
    done
}
