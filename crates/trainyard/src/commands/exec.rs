//! `trainyard exec`

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use owo_colors::OwoColorize;
use tokio::sync::mpsc;
use trainyard_api::{LogLine, LogPage};
use trainyard_core::dag::Dag;
use trainyard_core::event::Effect;
use trainyard_core::name::StageName;
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{AttemptState, Run, RunPhase, StageRun, StageState};
use trainyard_daemon::exec::{Exec as Prepared, ExecError, ExecOptions, Witness};

use crate::commands::run::look;
use crate::failure::{Done, Failure, Problem, in_full};
use crate::output;
use crate::view::log::Printer;
use crate::view::state::Mood;

/// How many requests to stop may wait to be heard: the first one and the one that forces.
const REQUESTS: usize = 2;

/// Run one DAG file here, against the local Docker engine, with no daemon and no database
///
/// Stages get the working tree as it stands, without what git ignores. A secret is taken from the
/// environment variable of its name. Ctrl-C cancels the run; twice, its clean-up too.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The DAG file
    file: PathBuf,

    /// A parameter
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = super::dag::param)]
    params: Vec<(String, String)>,

    /// Run this stage alone, without what it needs
    #[arg(long)]
    stage: Option<String>,

    /// Most stages at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: u32,

    /// Begin log lines with their time
    #[arg(short, long)]
    timestamps: bool,

    /// The Docker engine; the usual one without it
    #[arg(
        long,
        env = "DOCKER_HOST",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    docker_host: Option<String>,
}

impl Exec {
    pub(crate) async fn call(self) -> Done {
        let prepared = Prepared::read(ExecOptions {
            file: self.file,
            params: self.params,
            stage: self.stage,
            slots: self.parallelism,
        })
        .map_err(failure)?;
        let names: Vec<String> = prepared
            .dag()
            .stages()
            .iter()
            .map(|stage| stage.name.to_string())
            .collect();
        let witness = Arc::new(Teller {
            state: Mutex::new(Told {
                printer: Printer::new(look(self.timestamps), &names),
                states: vec![String::new(); names.len()],
            }),
        });
        let run = prepared
            .run(self.docker_host, witness, requests_to_stop())
            .await
            .map_err(failure)?;
        if let RunPhase::Finished {
            outcome, reason, ..
        } = &run.phase
        {
            let why = reason.as_ref().map(|reason| format!(": {reason}"));
            let style = Mood::of(outcome.as_str()).style();
            output::note(&format!(
                "run {}{}",
                outcome.style(style),
                why.unwrap_or_default()
            ));
        }
        match run.outcome() {
            Some(Outcome::Succeeded | Outcome::Skipped) => Ok(()),
            Some(
                Outcome::Failed
                | Outcome::Errored
                | Outcome::TimedOut
                | Outcome::Cancelled
                | Outcome::Lost
                | Outcome::UpstreamFailed,
            )
            | None => Err(Failure::Run),
        }
    }
}

/// Ctrl-C, as somebody who asks for the run to be cancelled.
fn requests_to_stop() -> mpsc::Receiver<String> {
    let (ask, asked) = mpsc::channel(REQUESTS);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            output::note("stopping; Ctrl-C once more stops the clean-up, too");
            if ask.send("Ctrl-C".to_owned()).await.is_err() {
                return;
            }
        }
    });
    asked
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
        | ExecError::UnknownStage { .. }
        | ExecError::NotAlone { .. } => Failure::usage(in_full(&error)),
        ExecError::Engine(_) => Failure::Refused(
            Problem::new(in_full(&error))
                .help("`trainyard doctor` looks at the engine and at all else that is needed"),
        ),
        ExecError::Storage(_) => Failure::refused(in_full(&error)),
    }
}

/// Prints what a run does as it does it: logs to standard output, the rest to standard error.
struct Teller {
    state: Mutex<Told>,
}

struct Told {
    printer: Printer,
    /// What was told of each stage last.
    states: Vec<String>,
}

impl Witness for Teller {
    fn log(&self, stage: &StageName, records: &[u8]) {
        let text = String::from_utf8_lossy(records);
        let page = LogPage {
            attempt: 0,
            lines: text.lines().filter_map(LogLine::from_record).collect(),
            dropped_bytes: 0,
            next_offset: 0,
            complete: false,
        };
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = told.printer.page(stage.as_str(), &page);
        // Who does not read on any more does not want to know; the run goes on to its end.
        let _ = output::raw(text.as_bytes());
    }

    fn changed(&self, dag: &Dag, run: &Run, _: &[Effect]) {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for ((stage, state), last) in dag.stages().iter().zip(&run.stages).zip(&mut told.states) {
            let (word, line) = describe(state);
            if line == *last {
                continue;
            }
            if !line.is_empty() {
                let name = stage.name.as_str().bold().to_string();
                output::note(&format!("{name}: {}", line.style(Mood::of(word).style())));
            }
            *last = line;
        }
    }
}

/// A stage's state: in a word, and with what there is to say of it. Waiting is not worth a word.
fn describe(stage: &StageRun) -> (&'static str, String) {
    let again = match stage.attempts.len() {
        0 | 1 => String::new(),
        number => format!(", attempt {number}"),
    };
    match &stage.state {
        StageState::Waiting => ("waiting", String::new()),
        StageState::Active => match stage.attempts.last().map(|attempt| &attempt.state) {
            Some(AttemptState::Running { .. }) => ("running", format!("running{again}")),
            Some(AttemptState::Claimed { .. }) => ("starting", format!("starting{again}")),
            Some(AttemptState::Queued { .. } | AttemptState::Finished { .. }) | None => {
                ("queued", String::new())
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
            ("backing_off", format!("waits for its next attempt{why}"))
        }
        StageState::Finished {
            outcome, reason, ..
        } => {
            let why = reason.as_ref().map(|reason| format!(": {reason}"));
            let line = format!("{outcome}{}", why.unwrap_or_default());
            (outcome.as_str(), line)
        }
    }
}
