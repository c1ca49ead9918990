//! `trainyard audit`

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use trainyard_api::{AuditSelection, Client};
use trainyard_core::principal::AuditAction;

use crate::connection::Group;
use crate::failure::Done;
use crate::output::{self, OutputArgs};
use crate::time_arg::{self, TimeArg};
use crate::view;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    List(AuditListArgs),
}

/// List changes, the newest first
#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// Only those of this repo, which may have been removed since
    #[arg(long)]
    repo: Option<String>,

    /// Only those that this token, user or daemon made
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Only those of this kind; give several with commas between them, or repeat the option
    #[arg(
        long = "action",
        value_name = "ACTION",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(AuditAction::ALL.iter().map(|action| action.as_str()))
    )]
    actions: Vec<String>,

    /// Only those made since: a time ago (`2h`, `7d`), or a moment (`2026-11-23`, `2026-11-23T15:00`)
    #[arg(long, value_name = "TIME", value_parser = time_arg::parse)]
    since: Option<TimeArg>,

    /// Only those made before: a time ago, or a moment
    #[arg(long, value_name = "TIME", value_parser = time_arg::parse)]
    until: Option<TimeArg>,

    /// Only those older than the one of this number
    #[arg(long, value_name = "ID")]
    before: Option<i64>,

    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    #[command(flatten)]
    output: OutputArgs,
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::List(list) => list.call(&client).await,
        }
    }
}

impl AuditListArgs {
    async fn call(self, client: &Client) -> Done {
        let screen = self.output.screen();
        let since = self.since.map(|since| since.moment("--since", screen.zone));
        let until = self.until.map(|until| until.moment("--until", screen.zone));
        let query = AuditSelection {
            repo: self.repo,
            by: self.by,
            actions: self.actions,
            since: since.transpose()?,
            until: until.transpose()?,
            before: self.before,
            limit: Some(self.limit),
        };
        let entries = client.audit(&query).await?;
        self.output
            .show(&entries, || view::audit::list(&entries.items, screen))?;
        if let (true, Some(last)) = (entries.more, entries.items.last())
            && output::is_terminal()
        {
            output::note(&format!("there are more: --before {}", last.id));
        }
        Ok(())
    }
}
