//! `trainyard run watch`

use std::pin::pin;
use std::time::Duration;

use clap::Args;
use console::Term;
use futures_util::StreamExt;
use trainyard_api::{Client, RunDetail};
use trainyard_core::measure::counted;

use crate::commands::run::follow;
use crate::commands::run::name::RunName;
use crate::failure::{Done, Failure};
use crate::view::screen::Screen;
use crate::{clock, output, view};
use trainyard_present::state::has_succeeded;
use trainyard_present::zone::Zone;

/// How often times are updated on a terminal.
const TICK: Duration = Duration::from_secs(1);

/// Makes a terminal cut lines at its edge: a wrapped line would take two rows, but be overwritten as one.
const UNWRAPPED: &str = "\x1b[?7l";

/// Makes it wrap lines again, as terminals do by default.
const WRAPPED: &str = "\x1b[?7h";

/// Watch a run to its end. The exit code is 1 if it does not succeed
///
/// A terminal shows the whole run and keeps it up to date; elsewhere, each change is a line.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    /// Show times in UTC instead of local time
    #[arg(long)]
    utc: bool,
}

impl Watch {
    pub(crate) async fn call(self, client: &Client) -> Done {
        let run = self.run.number(client).await?;
        let zone = output::zone(self.utc);
        let again = format!("trainyard run watch {run}");
        let last = if output::is_terminal() {
            follow::to_the_end(run, &again, drawn(client, run, zone)).await?
        } else {
            follow::to_the_end(run, &again, report(client, run, zone)).await?
        };
        match last {
            Some(run) if has_succeeded(&run.summary.state) => Ok(()),
            Some(_) | None => Err(Failure::Run),
        }
    }
}

async fn report(client: &Client, id: i64, zone: Zone) -> Result<Option<RunDetail>, Failure> {
    let mut changes = pin!(client.watch_run(id));
    let mut last: Option<RunDetail> = None;
    while let Some(run) = changes.next().await {
        let run = run?;
        output::text(&view::run::changes(last.as_ref(), &run, clock::now(), zone))?;
        last = Some(run);
    }
    Ok(last)
}

async fn drawn(client: &Client, id: i64, zone: Zone) -> Result<Option<RunDetail>, Failure> {
    let mut changes = pin!(client.watch_run(id));
    let mut tick = tokio::time::interval(TICK);
    let terminal = Term::stdout();
    let mut last: Option<RunDetail> = None;
    let mut lines = 0;
    loop {
        let is_over = tokio::select! {
            run = changes.next() => match run {
                Some(run) => {
                    last = Some(run?);
                    false
                }
                None => true,
            },
            _ = tick.tick() => false,
        };
        terminal.clear_last_lines(lines)?;
        lines = 0;
        if let Some(run) = &last {
            let (height, width) = terminal.size();
            let width = Some(width);
            let text = view::run::show(run, clock::now(), Screen { width, zone });
            // Rows that have scrolled away cannot be overwritten, so the last picture is printed completely.
            let fits = usize::from(height).saturating_sub(1);
            if is_over {
                output::text(&text)?;
            } else {
                let text = first_lines(&text, fits);
                lines = text.lines().count();
                output::raw(UNWRAPPED.as_bytes())?;
                output::text(text.trim_end())?;
                output::raw(WRAPPED.as_bytes())?;
            }
        }
        if is_over {
            return Ok(last);
        }
    }
}

/// The first lines of a text, and how many are missing.
fn first_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= count {
        return text.to_owned();
    }
    let shown = count.saturating_sub(1);
    let missing = counted((lines.len() - shown) as u64, "more line");
    format!("{}\n… {missing}\n", lines[..shown].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_higher_than_the_terminal_is_cut_and_says_so() {
        assert_eq!(first_lines("a\nb\nc\n", 3), "a\nb\nc\n");
        assert_eq!(first_lines("a\nb\nc\nd\n", 3), "a\nb\n… 2 more lines\n");
    }
}
