//! `trainyard run list`

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use clap::Args;
use clap::builder::PossibleValuesParser;
use trainyard_api::{Client, RunSelection, Timestamp};
use trainyard_core::id::RunId;
use trainyard_core::outcome::RunState;
use trainyard_daemon::config::Span;

use crate::failure::{Done, Failure};
use crate::output::{self, OutputArgs};
use crate::view::screen::Zone;
use crate::{clock, view};

/// List runs, the newest first
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this DAG: REPO/NAME, or NAME if only one repo has it
    #[arg(long)]
    dag: Option<String>,

    /// Only those of this repo
    #[arg(long)]
    repo: Option<String>,

    /// Only those of this branch
    #[arg(long)]
    branch: Option<String>,

    /// Only those of this commit: its hash, or the beginning of it
    #[arg(long, value_name = "HASH")]
    commit: Option<String>,

    /// Only those in this state; give several with commas between them, or repeat the option
    #[arg(
        long = "state",
        value_name = "STATE",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(RunState::ALL.map(RunState::as_str))
    )]
    states: Vec<String>,

    /// Only those created since: a time ago (`2h`, `7d`), or a moment (`2026-11-23`, `2026-11-23T15:00`)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,

    /// Only those older than this run
    #[arg(long, value_name = "RUN")]
    before: Option<RunId>,

    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    #[command(flatten)]
    output: OutputArgs,
}

/// The start of the listed period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// This long ago.
    Ago(std::time::Duration),
    /// At a moment.
    At(Timestamp),
    /// At a moment in the time zone that times are shown in.
    Clock(NaiveDateTime),
}

fn since(text: &str) -> Result<Since, &'static str> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(Since::Ago(span.0));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(Since::At(at.with_timezone(&Utc)));
    }
    let text = text.replace(' ', "T");
    let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d");
    let moment = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok());
    date.map(|date| date.and_time(NaiveTime::MIN))
        .ok()
        .or(moment)
        .map(Since::Clock)
        .ok_or("expected a time such as `2h`, `7d`, `2026-11-23` or `2026-11-23T15:00`")
}

impl Since {
    fn moment(self, now: Timestamp, zone: Zone) -> Option<Timestamp> {
        match (self, zone) {
            (Self::Ago(time), _) => now.checked_sub_signed(chrono::Duration::from_std(time).ok()?),
            (Self::At(at), _) => Some(at),
            (Self::Clock(clock), Zone::Utc) => Some(clock.and_utc()),
            // If a change of the clock repeats an hour, the first pass counts.
            (Self::Clock(clock), Zone::Local) => chrono::Local
                .from_local_datetime(&clock)
                .earliest()
                .map(|at| at.with_timezone(&Utc)),
        }
    }
}

impl List {
    pub(crate) async fn call(self, client: &Client) -> Done {
        let screen = self.output.screen();
        let since = match self.since {
            Some(since) => Some(since.moment(clock::now(), screen.zone).ok_or_else(|| {
                Failure::usage("the time of --since does not exist in this machine's time zone")
            })?),
            None => None,
        };
        let query = RunSelection {
            dag: self.dag,
            repo: self.repo,
            branch: self.branch,
            commit: self.commit,
            states: self.states,
            since,
            before: self.before.map(|run| run.0),
            limit: Some(self.limit),
        };
        let runs = client.runs(&query).await?;
        self.output
            .show(&runs, || view::run::list(&runs.items, clock::now(), screen))?;
        if let (true, Some(last)) = (runs.more, runs.items.last())
            && output::is_terminal()
        {
            output::note(&format!("there are more: --before {}", last.id));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_begin_at_is_an_age_a_date_or_a_moment() {
        let now: Timestamp = "2026-11-23T15:00:00Z".parse().unwrap();
        let begin = |text: &str| {
            let at = since(text).unwrap().moment(now, Zone::Utc).unwrap();
            at.to_rfc3339()
        };
        assert_eq!(begin("2h"), "2026-11-23T13:00:00+00:00");
        assert_eq!(begin("2026-11-20"), "2026-11-20T00:00:00+00:00");
        assert_eq!(begin("2026-11-20T08:30"), "2026-11-20T08:30:00+00:00");
        assert_eq!(begin("2026-11-20 08:30:05"), "2026-11-20T08:30:05+00:00");
        assert_eq!(
            begin("2026-11-20T08:30:00+02:00"),
            "2026-11-20T06:30:00+00:00"
        );
        assert!(since("yesterday").is_err());
    }
}
