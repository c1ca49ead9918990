//! `trainyard status`

use clap::Args;
use serde::Serialize;
use trainyard_api::{Client, DaemonInfo, DaemonState, DaemonSummary, Readiness, RunSelection};

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output::{self, OutputArgs};
use crate::view;

/// The largest number of active runs that is counted.
const COUNTED: u32 = 1_000;

/// Show which daemon the other commands use, why, and its state
///
/// The exit code is 3 if the daemon or its database does not answer.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    connection: Connection,
}

/// The state of a daemon.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Its address.
    pub(crate) url: String,
    /// Why commands use this daemon.
    pub(crate) because: String,
    /// Whether it can do its work.
    pub(crate) readiness: Readiness,
    /// Its properties; missing if its database does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) daemon: Option<DaemonInfo>,
    /// How many daemons of its database are alive.
    pub(crate) daemons_alive: usize,
    /// How many runs are running.
    pub(crate) runs_running: usize,
    /// How many runs are queued.
    pub(crate) runs_queued: usize,
}

impl StatusArgs {
    pub(crate) async fn call(self) -> Done {
        let (client, because) = self.connection.client_and_why()?;
        let readiness = client.readiness().await.map_err(|error| {
            output::note(&format!("asking {}: {because}", client.url()));
            Failure::from(error)
        })?;
        let mut report = Report {
            url: client.url().to_owned(),
            because,
            readiness,
            daemon: None,
            daemons_alive: 0,
            runs_running: 0,
            runs_queued: 0,
        };
        if report.is_at_work() {
            report.ask(&client).await?;
        }
        self.output.show(&report, || view::status::show(&report))?;
        if report.is_at_work() {
            Ok(())
        } else {
            Err(Failure::refused("the daemon cannot do its work"))
        }
    }
}

impl Report {
    fn is_at_work(&self) -> bool {
        self.readiness.state != trainyard_api::ReadyState::Unready
    }

    async fn ask(&mut self, client: &Client) -> Done {
        self.daemon = Some(client.daemon().await?);
        let is_alive = |daemon: &&DaemonSummary| daemon.state == DaemonState::Alive;
        self.daemons_alive = client
            .daemons()
            .await?
            .items
            .iter()
            .filter(is_alive)
            .count();
        let active = RunSelection {
            states: vec!["running".to_owned(), "queued".to_owned()],
            limit: Some(COUNTED),
            ..RunSelection::default()
        };
        let runs = client.runs(&active).await?.items;
        let running = runs.iter().filter(|run| run.state == "running").count();
        (self.runs_running, self.runs_queued) = (running, runs.len() - running);
        Ok(())
    }
}
