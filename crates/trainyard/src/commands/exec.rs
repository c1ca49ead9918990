//! `trainyard exec`

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use owo_colors::OwoColorize;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use trainyard_api::{LogLine, LogPage, Timestamp};
use trainyard_core::dag::Dag;
use trainyard_core::event::Effect;
use trainyard_core::name::StageName;
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{AttemptState, Run, RunPhase, StageRun, StageState};
use trainyard_daemon::exec::{Exec as Prepared, ExecError, ExecOptions, Witness};

use crate::commands::run::log_format;
use crate::failure::{Done, Failure, Problem, in_full};
use crate::output;
use crate::view::log::Printer;
use crate::view::screen::Screen;
use crate::view::state::Coloured as _;
use crate::view::table::{Rows, cell, lines, state};
use trainyard_present::quantity::{between, duration, number};
use trainyard_present::state::Mood;
use trainyard_present::zone::Zone;

/// How many stop requests may be pending: the first one, and the one that forces.
const REQUESTS: usize = 2;

/// Run one DAG file on the local Docker engine, without a daemon or a database
///
/// Stages get the working tree as it is, without files that git ignores. A secret is read from the environment
/// variable of its name. Ctrl-C, SIGTERM or SIGHUP cancels the run; a second one also stops its clean-up.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The DAG file
    file: PathBuf,

    /// A parameter
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = super::dag::param)]
    params: Vec<(String, String)>,

    /// Run this stage alone, without the stages that it needs
    #[arg(long)]
    stage: Option<String>,

    /// Most stages at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: u32,

    /// Copy outputs to DIR/STAGE/PATH at the end, replacing those of an earlier run
    #[arg(long, value_name = "DIR")]
    outputs: Option<PathBuf>,

    /// Begin log lines with their time
    #[arg(short, long)]
    timestamps: bool,

    /// The address of the Docker engine; Docker's own default without it
    #[arg(
        long,
        env = "DOCKER_HOST",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    docker_host: Option<String>,
}

impl ExecArgs {
    pub(crate) async fn call(self) -> Done {
        let prepared = Prepared::read(ExecOptions {
            file: self.file,
            params: super::dag::each_once(self.params)?,
            stage: self.stage,
            slots: self.parallelism,
            outputs: self.outputs,
        })
        .map_err(failure)?;
        let names: Vec<String> = prepared
            .dag()
            .stages()
            .iter()
            .map(|stage| stage.name.to_string())
            .collect();
        let dag = prepared.dag().clone();
        let witness = Arc::new(Teller {
            state: Mutex::new(Progress {
                printer: Printer::new(log_format(self.timestamps), &names),
                stages: vec![Seen::default(); names.len()],
            }),
        });
        for (name, value) in prepared.secrets() {
            for warning in super::secret::unredacted(value.expose_secret()) {
                output::note(&format!("{name}: {warning}"));
            }
        }
        let requests = requests_to_stop()?;
        let run = prepared
            .run(self.docker_host, Arc::clone(&witness) as _, requests)
            .await
            .map_err(failure)?;
        let table = ended(&dag, &run, &witness.locked().stages);
        witness.note(table.trim_end());
        match run.outcome() {
            Some(Outcome::Succeeded | Outcome::Skipped) => Ok(()),
            Some(
                Outcome::Failed
                | Outcome::Errored
                | Outcome::TimedOut
                | Outcome::Lost
                | Outcome::Cancelled
                | Outcome::UpstreamFailed,
            )
            | None => Err(Failure::Run),
        }
    }
}

/// Turns Ctrl-C, SIGTERM and SIGHUP into requests to cancel the run. A SIGHUP that the caller ignores, as `nohup`
/// does, stays ignored.
fn requests_to_stop() -> io::Result<mpsc::Receiver<String>> {
    let (ask, asked) = mpsc::channel(REQUESTS);
    let signals = [
        ("Ctrl-C", SignalKind::interrupt()),
        ("SIGTERM", SignalKind::terminate()),
        ("SIGHUP", SignalKind::hangup()),
    ];
    for (name, kind) in signals {
        if kind == SignalKind::hangup() && is_ignored(kind) {
            continue;
        }
        let mut signals = signal(kind)?;
        let ask = ask.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                output::note("stopping; a second signal also stops the clean-up");
                if ask.send(name.to_owned()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(asked)
}

/// Whether this process was started with a signal ignored, according to the kernel.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = kind.as_raw_value() - 1;
    ignored.is_some_and(|mask| mask >> bit & 1 == 1)
}

fn failure(error: ExecError) -> Failure {
    match error {
        ExecError::Invalid {
            file,
            text,
            diagnostics,
        } => {
            let colours = output::complains_in_colours();
            let shown = trainyard_dagfile::render(&file, &text, &diagnostics, colours);
            output::complain(shown.trim_end());
            Failure::Faults
        }
        ExecError::Unreadable { .. }
        | ExecError::Params(_)
        | ExecError::MissingSecrets(_)
        | ExecError::UnknownStage { .. }
        | ExecError::NeedsOutputs { .. }
        | ExecError::NotAlone { .. } => Failure::usage(in_full(&error)),
        ExecError::Engine(_) => Failure::Refused(
            Problem::new(in_full(&error))
                .help("`trainyard doctor` checks Docker and everything else that is needed"),
        ),
        ExecError::Storage(_) | ExecError::Outputs { .. } => Failure::refused(in_full(&error)),
        ExecError::Cancelled(_) => {
            output::complain(&in_full(&error));
            Failure::Interrupted
        }
    }
}

/// Prints the progress of a run: logs to standard output, the rest to standard error.
struct Teller {
    state: Mutex<Progress>,
}

struct Progress {
    printer: Printer,
    stages: Vec<Seen>,
}

/// The printed state of a stage.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Its last printed line.
    line: String,
    /// When its first attempt began to run.
    began: Option<Timestamp>,
}

impl Progress {
    /// Prints a note between the logs, on a line of its own.
    fn say(&mut self, text: &str) {
        let _ = output::raw(self.printer.break_line().as_bytes());
        output::note(text);
    }
}

impl Teller {
    fn locked(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Teller {
    fn log(&self, stage: &StageName, records: &[u8]) {
        let text = String::from_utf8_lossy(records);
        let page = LogPage {
            lines: LogLine::read(&text).collect(),
            ..LogPage::default()
        };
        let mut progress = self.locked();
        let text = progress.printer.page(stage.as_str(), &page);
        // The reader has closed the stream. The run continues to its end.
        let _ = output::raw(text.as_bytes());
    }

    fn note(&self, text: &str) {
        self.locked().say(text);
    }

    fn changed(&self, dag: &Dag, run: &Run, _: &[Effect]) {
        let mut progress = self.locked();
        let mut news = Vec::new();
        for ((stage, state), seen) in dag
            .stages()
            .iter()
            .zip(&run.stages)
            .zip(&mut progress.stages)
        {
            if let Some(AttemptState::Running { since }) =
                state.attempts.last().map(|attempt| &attempt.state)
            {
                seen.began.get_or_insert(*since);
            }
            let line = details(state);
            if line == seen.line {
                continue;
            }
            if !line.is_empty() {
                let name = stage.name.as_str().bold().to_string();
                news.push(format!(
                    "{name}: {}",
                    line.style(Mood::of(state.word()).style())
                ));
            }
            seen.line = line;
        }
        for line in news {
            progress.say(&line);
        }
    }
}

/// The end of a run: a table of its stages, and a line that names each stage that failed.
fn ended(dag: &Dag, run: &Run, seen: &[Seen]) -> String {
    let heads = ["STAGE", "STATE", "TIME", "NOTE"];
    let screen = Screen {
        width: output::width(),
        zone: Zone::Utc,
    };
    let mut rows = Rows::new(&heads, screen).right(2);
    let mut failed = Vec::new();
    for ((stage, end), seen) in dag.stages().iter().zip(&run.stages).zip(seen) {
        let StageState::Finished {
            at,
            outcome,
            reason,
        } = &end.state
        else {
            continue;
        };
        match outcome {
            Outcome::Failed | Outcome::Errored | Outcome::TimedOut | Outcome::Lost => {
                failed.push(stage.name.as_str());
            }
            Outcome::Succeeded
            | Outcome::Cancelled
            | Outcome::Skipped
            | Outcome::UpstreamFailed => {}
        }
        let took = seen.began.map(|began| duration(between(began, *at)));
        let mut notes: Vec<String> = reason.iter().map(|reason| reason.message.clone()).collect();
        if !end.metrics.is_empty() {
            let metrics = end.metrics.iter();
            let metrics = metrics.map(|(name, value)| format!("{name} {}", number(*value)));
            notes.push(metrics.collect::<Vec<_>>().join(", "));
        }
        if !stage.program().gate.is_empty() && *outcome == Outcome::Succeeded {
            notes.push("gate passed".to_owned());
        }
        if end.attempts.len() > 1 {
            notes.push(format!("{} attempts", end.attempts.len()));
        }
        rows.add(vec![
            cell(stage.name.as_str()),
            state(outcome.as_str()),
            cell(took.unwrap_or_default()),
            lines(&notes),
        ]);
    }
    let mut text = rows.text("no stages");
    if let RunPhase::Finished {
        outcome, reason, ..
    } = &run.phase
    {
        let why = match (&*failed, reason) {
            ([], None) => String::new(),
            ([], Some(reason)) => format!(": {reason}"),
            // The table has its reason.
            ([name], _) => format!(": stage {name}"),
            (names, _) => format!(": stages {}", names.join(", ")),
        };
        let style = Mood::of(outcome.as_str()).style();
        text.push_str(&format!("run {}{why}", outcome.style(style)));
    }
    text
}

/// The details of a stage's state, which are empty while it waits.
fn details(stage: &StageRun) -> String {
    let again = match stage.attempts.len() {
        0 | 1 => String::new(),
        number => format!(", attempt {number}"),
    };
    match &stage.state {
        StageState::Waiting => String::new(),
        StageState::Active => match stage.attempts.last().map(|attempt| &attempt.state) {
            Some(AttemptState::Running { .. } | AttemptState::Claimed { .. }) => {
                format!("{}{again}", stage.word())
            }
            Some(AttemptState::Queued { .. } | AttemptState::Finished { .. }) | None => {
                String::new()
            }
        },
        StageState::BackingOff { .. } => {
            let ended = stage.attempts.last().and_then(|last| match &last.state {
                AttemptState::Finished {
                    outcome, reason, ..
                } => Some((outcome, reason)),
                AttemptState::Queued { .. }
                | AttemptState::Claimed { .. }
                | AttemptState::Running { .. } => None,
            });
            let why = match ended {
                Some((outcome, Some(reason))) => format!(" after it {outcome}: {reason}"),
                Some((outcome, None)) => format!(" after it {outcome}"),
                None => String::new(),
            };
            format!("waits for its next attempt{why}")
        }
        StageState::Finished {
            outcome, reason, ..
        } => {
            let why = reason.as_ref().map(|reason| format!(": {reason}"));
            format!("{outcome}{}", why.unwrap_or_default())
        }
    }
}
