//! `trainyard gc`

use clap::Args;

use crate::connection::Connection;
use crate::failure::Done;
use crate::output::OutputArgs;
use crate::view;

/// Remove now everything that retention does not keep; the daemon also does this periodically
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only count, and remove nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    connection: Connection,
}

impl Gc {
    pub(crate) async fn call(self) -> Done {
        let report = self.connection.client()?.gc(self.dry_run).await?;
        self.output.show(&report, || view::gc::report(&report))
    }
}
