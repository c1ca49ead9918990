//! Follows the logs of all stages of a run at once.
//!
//! The run's detail lists the attempts; each attempt is followed separately, to its end. So the log of a stage is
//! printed completely and in order, whatever the other stages do and however often it is retried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use trainyard_api::{Client, ClientError, LogPage, RunDetail, RunStarted};

use crate::commands::dag::started_line;
use crate::commands::run::logs::Tail;
use crate::commands::run::{log_format, logs};
use crate::failure::{Done, Failure};
use crate::output;
use crate::view::log::Printer;
use crate::view::plain;
use trainyard_present::state::has_succeeded;

/// An item of a followed attempt: a page, or its end.
enum Piece {
    Page(String, LogPage),
    End(String),
}

type Pieces = BoxStream<'static, Result<Piece, ClientError>>;

/// Attempts of one stage that wait until the one before them is printed completely. The first one is being followed.
type Turns = BTreeMap<String, VecDeque<u32>>;

/// Follows the logs of a run that was just started to its end, and says how it ended.
pub(crate) async fn started(client: &Client, started: &RunStarted) -> Done {
    output::note(&started_line(started));
    let again = format!("trainyard run logs {} --follow", started.id);
    let logs = logs(client, started.id, &[], false, None);
    let run = to_the_end(started.id, &again, logs).await?;
    let Some(run) = run.map(|run| run.summary) else {
        return Err(Failure::Run);
    };
    let why = run
        .reason
        .map(|reason| format!(": {}", plain(&reason.message)));
    let (id, state) = (run.id, plain(&run.state));
    output::note(&format!("run {id} {state}{}", why.unwrap_or_default()));
    match has_succeeded(&run.state) {
        true => Ok(()),
        false => Err(Failure::Run),
    }
}

/// Prints the logs of a run, or of some stages of it, until it has ended. Returns how it is then.
pub(crate) async fn logs(
    client: &Client,
    id: i64,
    stages: &[String],
    timestamps: bool,
    tail: Option<usize>,
) -> Result<Option<RunDetail>, Failure> {
    let mut changes = pin!(client.watch_run(id));
    let mut pieces: SelectAll<Pieces> = SelectAll::new();
    let mut turns = Turns::new();
    let mut known = BTreeSet::new();
    let mut printer: Option<Printer> = None;
    let mut last: Option<RunDetail> = None;
    loop {
        tokio::select! {
            // Prints pages that have arrived before it checks for new attempts.
            biased;
            Some(piece) = pieces.next() => match (piece?, &mut printer) {
                (Piece::Page(stage, page), Some(printer)) => {
                    output::raw(printer.page(&stage, &page).as_bytes())?;
                }
                (Piece::End(stage), Some(printer)) => {
                    let turn = turns.entry(stage.clone()).or_default();
                    turn.pop_front();
                    if let Some(attempt) = turn.front() {
                        pieces.push(begin(client, id, &stage, *attempt, printer, None)?);
                    }
                }
                (Piece::Page(..) | Piece::End(_), None) => {}
            },
            Some(run) = changes.next() => {
                let run = run?;
                // The log of an attempt that begins later is new from its first line on.
                let tail = tail.filter(|_| last.is_none());
                let stages = logs::chosen(&run, stages)?;
                let printer = printer.get_or_insert_with(|| Printer::new(log_format(timestamps), &stages));
                for (stage, attempt) in new_attempts(&run, &stages, &mut known) {
                    let turn = turns.entry(stage.clone()).or_default();
                    turn.push_back(attempt);
                    if turn.len() == 1 {
                        pieces.push(begin(client, id, &stage, attempt, printer, tail)?);
                    }
                }
                last = Some(run);
            }
            else => break,
        }
    }
    Ok(last)
}

/// The attempts that are not followed yet. Of those that had ended before the first request, only the last one of
/// each stage is shown.
fn new_attempts(
    run: &RunDetail,
    stages: &[String],
    known: &mut BTreeSet<(String, u32)>,
) -> Vec<(String, u32)> {
    let is_first_look = known.is_empty();
    let mut new = Vec::new();
    for stage in run
        .stages
        .iter()
        .filter(|stage| stages.contains(&stage.name))
    {
        let Some(newest) = stage.attempts.last().map(|attempt| attempt.number) else {
            continue;
        };
        for attempt in 1..=newest {
            let is_new = known.insert((stage.name.clone(), attempt));
            if is_new && (attempt == newest || !is_first_look) {
                new.push((stage.name.clone(), attempt));
            }
        }
    }
    new
}

/// Follows an attempt, and prints its number if it is not the first. With `tail`, earlier output is limited to its
/// last lines.
fn begin(
    client: &Client,
    id: i64,
    stage: &str,
    attempt: u32,
    printer: &mut Printer,
    tail: Option<usize>,
) -> Result<Pieces, Failure> {
    if attempt > 1 {
        let remark = printer.remark(stage, &format!("attempt {attempt}"));
        output::raw(remark.as_bytes())?;
    }
    let name = stage.to_owned();
    let pages = match tail {
        None => client.follow_log(id, stage, attempt, 0).boxed(),
        Some(lines) => from_tail(client.clone(), id, stage.to_owned(), attempt, lines),
    };
    let end = stream::once(std::future::ready(Ok(Piece::End(name.clone()))));
    Ok(pages
        .map(move |page| page.map(|page| Piece::Page(name.clone(), page)))
        .chain(end)
        .boxed())
}

/// The last lines of an attempt's log, and then new lines as they are written.
fn from_tail(
    client: Client,
    id: i64,
    stage: String,
    attempt: u32,
    lines: usize,
) -> BoxStream<'static, Result<LogPage, ClientError>> {
    let from = (client.clone(), stage.clone());
    let last = async move {
        let (client, stage) = from;
        let (mut tail, mut offset) = (Tail::new(lines), 0);
        loop {
            let page = client
                .log(id, &stage, Some(attempt), offset, Duration::ZERO)
                .await?;
            let is_last = page.complete || page.next_offset == offset;
            offset = page.next_offset;
            tail.take(page);
            if is_last {
                return Ok((tail.page(), offset));
            }
        }
    };
    stream::once(last)
        .flat_map(move |last: Result<_, ClientError>| match last {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok((Some(page), _)) if page.complete => stream::iter([Ok(page)]).boxed(),
            Ok((page, offset)) => {
                let rest = client.follow_log(id, &stage, attempt, offset);
                stream::iter(page.map(Ok)).chain(rest).boxed()
            }
        })
        .boxed()
}

/// Follows until a run has ended, or until Ctrl-C, which stops only the following. `again` is the command that
/// resumes it.
pub(crate) async fn to_the_end<T>(
    run: i64,
    again: &str,
    looking: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        // Polled first, so that the handler is installed from the beginning.
        biased;
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            output::note(&format!(
                "\nrun {run} continues: `{again}` follows it again, `trainyard run cancel {run}` cancels it"
            ));
            Err(Failure::Interrupted)
        }
        end = looking => end,
    }
}
