//! `trainyard doctor`

use clap::Args;
use owo_colors::{OwoColorize, Style};
use trainyard_api::Violation;
use trainyard_daemon::doctor::{self, Check, CheckStatus};
use trainyard_daemon::{Config, DaemonArgs, DevArgs};

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output::OutputArgs;

/// Check everything that a daemon needs, and report what is missing
///
/// It changes nothing. With a configuration file, it checks the needs of `trainyard daemon`; without one, those of
/// `trainyard dev`. With --check, a running daemon checks the invariants of its database.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Check the database of the running daemon instead, and show the rows that violate an invariant
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    args: DaemonArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl Doctor {
    pub(crate) async fn call(self: Box<Self>) -> Done {
        if self.check {
            return self.check_database().await;
        }
        let config = match &self.args.config {
            Some(_) => Config::for_daemon(&self.args),
            None => Config::for_dev(&DevArgs {
                settings: self.args.settings.clone(),
                ..DevArgs::default()
            }),
        };
        let config = config.map_err(|error| Failure::usage(error.to_string()))?;
        let checks = doctor::examine(&config).await;
        self.output.show(&checks, || report(&checks))?;
        match doctor::worst(&checks) {
            CheckStatus::Ok | CheckStatus::Unknown | CheckStatus::Warning => Ok(()),
            CheckStatus::Failed => Err(Failure::refused("a daemon would not work here")),
        }
    }
}

impl Doctor {
    async fn check_database(self: Box<Self>) -> Done {
        let connection = Connection::from_variables(self.args.settings.data_dir.clone())?;
        let violations = connection.client()?.violations().await?;
        self.output
            .show(&violations, || broken(&violations.items))?;
        if violations.items.is_empty() {
            Ok(())
        } else {
            Err(Failure::refused(
                "the database violates invariants; this is a bug in Trainyard, or rows or files were changed by hand",
            ))
        }
    }
}

fn broken(violations: &[Violation]) -> String {
    if violations.is_empty() {
        return "all invariants of the database hold\n".to_owned();
    }
    let mut text = String::new();
    for violation in violations {
        text.push_str(&format!(
            "{}: it does not hold that {}\n",
            violation.invariant.bold(),
            violation.says
        ));
        for row in &violation.rows {
            text.push_str(&format!("  {row}\n"));
        }
    }
    text
}

fn report(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let (word, style) = match check.status {
            CheckStatus::Ok => ("ok     ", Style::new().green()),
            CheckStatus::Unknown => ("unknown", Style::new().yellow()),
            CheckStatus::Warning => ("warning", Style::new().yellow()),
            CheckStatus::Failed => ("failed ", Style::new().red()),
        };
        let name = format!("{:width$}", check.name);
        text.push_str(&format!(
            "{}  {}  {}\n",
            word.style(style),
            name.bold(),
            check.detail
        ));
        if let Some(help) = &check.what_to_do {
            text.push_str(&format!("{:9}{}\n", "", help));
        }
    }
    text
}
