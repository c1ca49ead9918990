//! DAGs: list, show, start by hand, pause and remove them; and their next ticks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;
use serde_json::Value;
use trainyard_api::{Dag, DagDetail, History, Listing, Run, RunStarted, Tick, Trigger};
use trainyard_core::Timestamp;
use trainyard_core::cause::{Cause, CauseKind};
use trainyard_core::cron::Cron;
use trainyard_core::id::{DagId, RunId};
use trainyard_core::outcome::RunState;
use trainyard_core::param::{GivenValue, ParamValue, resolve};
use trainyard_core::principal::Act;
use trainyard_core::schedule::Upcoming;
use trainyard_store::{NewRun, Recorded};

use crate::asked::AskedVersion;
use crate::work::Desk;
use crate::{App, AppError, AppErrorKind, Result};
use crate::{names, sync};

/// The most ticks in one answer.
const TICKS_AT_MOST: u32 = 1_000;

/// How long searching them may take; the answer has those that were found by then.
const TICKS_WITHIN: Duration = Duration::from_secs(2);

/// The remotes of how many repos are read for a DAG name without a repo.
const READ_TOGETHER: usize = 16;

impl App {
    pub async fn list_dags(&self, repo: Option<&str>) -> Result<Listing<Dag>> {
        let repo = match repo {
            Some(repo) => Some(names::repo(self, repo).await?),
            None => None,
        };
        Ok(Listing::whole(self.store().list_dags(repo).await?))
    }

    pub async fn dag(&self, repo: &str, dag: &str) -> Result<DagDetail> {
        let id = find(self, repo, dag).await?;
        let pools = &self.settings().capacity.pools_total;
        Ok(self.store().dag_detail(id, pools).await?)
    }

    pub async fn trigger(
        &self,
        act: &Act,
        repo: &str,
        dag: &str,
        trigger: Trigger,
    ) -> Result<RunStarted> {
        let id = find_fresh(self, repo, dag).await?;
        let asked = match &trigger.reference {
            None => AskedVersion::of_current(self, id).await?,
            Some(reference) => AskedVersion::at(self, id, reference).await?,
        };
        let given = trigger
            .params
            .into_iter()
            .map(|(name, value)| Ok((name, given(value)?)));
        let given = given.collect::<Result<BTreeMap<String, GivenValue>>>()?;
        let params = resolve(&asked.dag.declared().params, &given).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            AppError::invalid(faults.join("\n"))
        })?;
        let new = NewRun {
            dag: id,
            version: asked.version,
            cause: Cause {
                kind: CauseKind::Manual {
                    reference: trigger.reference,
                    request: trigger.request,
                },
                actor: Some(act.by.name.clone()),
                commit: asked.commit,
                summary: asked.summary,
                branch: asked.branch,
            },
            params,
            logical_time: None,
        };
        let mut started = started(self, self.store().start_run(act, &new).await?).await?;
        if !started.existed {
            started.notes = asked.notes;
        }
        Ok(started)
    }

    /// The history that is removed along with a DAG.
    pub async fn dag_history(&self, repo: &str, dag: &str) -> Result<History> {
        let id = find(self, repo, dag).await?;
        Ok(self.store().dag_history(id).await?)
    }

    /// Removes a DAG that the followed branch does not have.
    pub async fn remove_dag(&self, act: &Act, repo: &str, dag: &str) -> Result<()> {
        let id = find(self, repo, dag).await?;
        self.store().remove_dag(act, id).await?;
        Ok(())
    }

    pub async fn pause_dag(&self, act: &Act, repo: &str, dag: &str, paused: bool) -> Result<Dag> {
        let id = find(self, repo, dag).await?;
        self.store().pause_dag(act, id, paused).await?;
        Ok(self.store().dag_summary(id).await?)
    }

    pub async fn ticks(&self, repo: &str, dag: &str, count: Option<u32>) -> Result<Listing<Tick>> {
        static DESK: Desk = Desk::new(1, TICKS_WITHIN);
        let count = count.unwrap_or(5).min(TICKS_AT_MOST) as usize;
        let id = find(self, repo, dag).await?;
        let schedules = self.store().schedules(id).await?;
        let schedules = schedules.into_iter().filter_map(|schedule| {
            let timezone = schedule.timezone.parse().ok()?;
            Some((Cron::stored(&schedule.cron)?, timezone, schedule.next_tick))
        });
        let schedules = schedules.collect();
        let listing = DESK.work(move |until| {
            let mut upcoming = Upcoming::new(schedules);
            let mut items = Vec::new();
            while items.len() < count && !until.is_over() {
                let Some((cron, timezone, tick)) = upcoming.next() else {
                    return Listing::whole(items);
                };
                items.push(shown(&cron, timezone, tick));
            }
            Listing {
                more: items.len() < count,
                items,
            }
        });
        let listing = listing.await.ok_or_else(|| {
            let message = "too many requests for ticks are under way";
            AppError::busy(message, TICKS_WITHIN)
        })?;
        Ok(listing)
    }
}

/// The answer to a request for a run.
pub(crate) async fn started(app: &App, recorded: Recorded) -> Result<RunStarted> {
    let (run, existed) = match recorded {
        Recorded::Started(run) => (run, false),
        Recorded::Duplicate(run) => (run, true),
        Recorded::Paused => return Err(AppError::conflict("the DAG is paused")),
        Recorded::Full(why) => return Err(AppError::conflict(why)),
    };
    // The run exists already: a failure to read its state does not fail the request.
    let standing = standing(app, run).await.ok();
    let (summary, why) = standing.unzip();
    Ok(RunStarted {
        id: run.0,
        existed,
        state: summary.as_ref().map(|run| run.state.clone()),
        why: why.flatten(),
        branch: summary.as_ref().and_then(|run| run.branch.clone()),
        commit: summary.map(|run| run.commit),
        notes: Vec::new(),
    })
}

/// The state of a run, and the reason where it has not started or was skipped.
async fn standing(app: &App, run: RunId) -> Result<(Run, Option<String>)> {
    let store = app.store();
    let summary = store.run_summary(run).await?;
    let why = match RunState::from_word(&summary.state) {
        Some(RunState::Queued) => store.why_not_started(run, &app.settings().capacity).await?,
        Some(RunState::Running | RunState::Ended(_)) | None => {
            summary.reason.as_ref().map(|reason| reason.message.clone())
        }
    };
    Ok((summary, why))
}

fn given(value: Value) -> Result<GivenValue> {
    match value {
        // Text is parsed as the parameter's type, so that the command line needs no JSON quoting.
        Value::String(text) => Ok(GivenValue::Text(text)),
        Value::Bool(truth) => Ok(GivenValue::Typed(ParamValue::Boolean(truth))),
        Value::Number(number) => {
            let integer = number.as_i64().map(ParamValue::Integer);
            let value = integer.or_else(|| number.as_f64().map(ParamValue::Number));
            value
                .map(GivenValue::Typed)
                .ok_or_else(|| AppError::invalid("a number is too large"))
        }
        other => Err(AppError::invalid(format!("a parameter cannot be {other}"))),
    }
}

/// A tick with its local time, and a note where a change of the clock moves or repeats it.
fn shown(cron: &Cron, timezone: Tz, at: Timestamp) -> Tick {
    let local = timezone.from_utc_datetime(&at.naive_utc());
    let day_before = timezone.from_utc_datetime(&(at - chrono::Duration::days(1)).naive_utc());
    let shift =
        local.offset().fix().local_minus_utc() - day_before.offset().fix().local_minus_utc();
    let note = (shift != 0).then(|| {
        let minutes = shift.abs() / 60;
        let way = if shift > 0 { "forward" } else { "back" };
        format!("the clock went {way} by {minutes} min since the day before")
    });
    Tick {
        at,
        local: local.format("%Y-%m-%d %H:%M %Z").to_string(),
        cron: cron.to_string(),
        timezone: timezone.name().to_owned(),
        note,
    }
}

/// The DAG of a path; the repo `-` stands for the only one that has it.
async fn find(app: &App, repo: &str, dag: &str) -> Result<DagId> {
    let text = if repo == "-" {
        dag.to_owned()
    } else {
        format!("{repo}/{dag}")
    };
    names::dag(app, &text).await
}

/// As [`find`], and reads the remotes first where no DAG of this name is known: its file may have been pushed just now.
async fn find_fresh(app: &App, repo: &str, dag: &str) -> Result<DagId> {
    match find(app, repo, dag).await {
        Err(error) if error.kind == AppErrorKind::NotFound => {}
        found => return found,
    }
    let repos = if repo == "-" {
        let repos = app.store().list_repos().await?;
        repos.iter().map(|repo| repo.id).collect()
    } else {
        vec![names::repo(app, repo).await?]
    };
    if repos.len() <= READ_TOGETHER {
        let reading = repos.into_iter().map(|repo| sync::refresh(app, repo));
        futures_util::future::try_join_all(reading).await?;
    }
    find(app, repo, dag).await
}
