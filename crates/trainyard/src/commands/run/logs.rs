//! `trainyard run logs`

use std::time::Duration;

use clap::Args;
use trainyard_api::{Client, LogLine, LogPage, RunDetail};

use crate::commands::run::name::RunName;
use crate::commands::run::{follow, log_format};
use crate::failure::{Done, Failure, Problem, suggestion};
use crate::output;
use crate::view::log::Printer;

/// Print the logs of stages, of the last attempt of each
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    /// Only the logs of these stages
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,

    /// Follow the logs to the end of the run
    #[arg(short, long)]
    follow: bool,

    /// The attempt's number; the last one without it
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "stages",
        conflicts_with = "follow"
    )]
    attempt: Option<u32>,

    /// Only the last lines of each stage
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,

    /// Begin lines with their time
    #[arg(short, long)]
    timestamps: bool,
}

impl Logs {
    pub(crate) async fn call(self, client: &Client) -> Done {
        let id = self.run.number(client).await?;
        if self.follow {
            let again = format!("trainyard run logs {id} --follow");
            let logs = follow::logs(client, id, &self.stages, self.timestamps, self.tail);
            return follow::to_the_end(id, &again, logs).await.map(drop);
        }
        let run = client.run(id).await?;
        let stages = chosen(&run, &self.stages)?;
        let mut printer = Printer::new(log_format(self.timestamps), &stages);
        for stage in &stages {
            let mut tail = self.tail.map(Tail::new);
            let mut offset = 0;
            loop {
                let page = client
                    .log(id, stage, self.attempt, offset, Duration::ZERO)
                    .await?;
                offset = page.next_offset;
                let nothing_more = page.lines.is_empty() && page.dropped_bytes == 0;
                let is_last = page.complete || nothing_more;
                match &mut tail {
                    None => output::raw(printer.page(stage, &page).as_bytes())?,
                    Some(tail) => tail.take(page),
                }
                if is_last {
                    break;
                }
            }
            if let Some(page) = tail.and_then(Tail::page) {
                output::raw(printer.page(stage, &page).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The last lines of a log that arrives in pages.
pub(super) struct Tail {
    lines: usize,
    page: Option<LogPage>,
}

impl Tail {
    pub(super) fn new(lines: usize) -> Self {
        Self { lines, page: None }
    }

    /// Takes the next page, and drops lines that are no longer among the last ones.
    pub(super) fn take(&mut self, mut page: LogPage) {
        // Lines before a gap are not the last ones, since the missing lines follow them.
        if let Some(before) = self.page.take().filter(|_| page.dropped_bytes == 0) {
            let newer = std::mem::replace(&mut page.lines, before.lines);
            page.lines.extend(newer);
            page.dropped_bytes = before.dropped_bytes;
            page.dropped_lines = before.dropped_lines;
            page.removed_at = before.removed_at;
        }
        if self.lines == 0 {
            page.lines.clear();
            (page.dropped_bytes, page.dropped_lines) = (0, 0);
        }
        let ends = |line: &LogLine| !line.continues;
        let open = usize::from(page.lines.last().is_some_and(|line| !ends(line)));
        // Pieces of one line count as one line: the first shown piece follows the end of a line.
        let cut = page.lines.iter().enumerate().rev();
        let cut = cut
            .filter(|(_, line)| ends(line))
            .map(|(place, _)| place + 1)
            .nth(self.lines.saturating_sub(open));
        if let Some(cut) = cut {
            page.lines.drain(..cut);
            (page.dropped_bytes, page.dropped_lines) = (0, 0);
        }
        self.page = Some(page);
    }

    /// A page with the last lines; `None` if no page arrived.
    pub(super) fn page(self) -> Option<LogPage> {
        self.page
    }
}

/// The stages whose logs to show, in the order of the DAG: those that are named, or all.
pub(super) fn chosen(run: &RunDetail, stages: &[String]) -> Result<Vec<String>, Failure> {
    let names = run.stages.iter().map(|stage| stage.name.clone());
    let mut names: Vec<String> = names.collect();
    let Some(wanted) = stages.iter().find(|stage| !names.contains(stage)) else {
        names.retain(|name| stages.is_empty() || stages.contains(name));
        return Ok(names);
    };
    let run = run.summary.id;
    let problem = Problem::new(format!("run {run} has no stage {wanted}"));
    Err(Failure::NotFound(problem.help(suggestion(wanted, &names))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lines: &[(&str, bool)]) -> LogPage {
        let line = |(text, continues): &(&str, bool)| LogLine {
            at: "2026-11-23T15:00:00Z".parse().unwrap(),
            stream: "stdout".to_owned(),
            text: (*text).to_owned(),
            continues: *continues,
        };
        LogPage {
            attempt: 1,
            lines: lines.iter().map(line).collect(),
            dropped_bytes: 0,
            dropped_lines: 0,
            removed_at: None,
            next_offset: 1,
            complete: false,
        }
    }

    fn last(lines: usize, pages: &[&[(&str, bool)]]) -> Vec<String> {
        let mut tail = Tail::new(lines);
        for lines in pages {
            tail.take(page(lines));
        }
        let lines = tail.page().unwrap().lines.into_iter();
        lines.map(|line| line.text).collect()
    }

    #[test]
    fn the_last_lines_are_counted_over_pages_and_pieces_of_one_line_are_one() {
        let first = [("a", false), ("b", false)];
        let second = [("c", true), ("d", false), ("e", false)];
        assert_eq!(last(2, &[&first, &second]), ["c", "d", "e"]);
        assert_eq!(last(9, &[&first]), ["a", "b"]);
        assert_eq!(last(1, &[&first, &[("half", true)]]), ["half"]);
        assert_eq!(last(0, &[&first]), [""; 0]);
        assert_eq!(last(0, &[&first, &[("half", true)]]), [""; 0]);
    }

    #[test]
    fn a_gap_is_reported_if_it_is_among_the_last_lines() {
        let missing = |lines: usize| {
            let mut tail = Tail::new(lines);
            tail.take(page(&[("a", false)]));
            tail.take(LogPage {
                dropped_bytes: 3,
                ..page(&[("b", false)])
            });
            tail.take(page(&[("c", false)]));
            let page = tail.page().unwrap();
            (page.dropped_bytes, page.lines.len())
        };
        assert_eq!(missing(9), (3, 2));
        assert_eq!(missing(1), (0, 1));
    }
}
