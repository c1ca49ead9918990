//! The canonical form of a DAG: `{"format": 1, …}`. Equal DAGs have equal forms.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_core::cron::Cron;
use trainyard_core::dag::{Dag, DagDraft};
use trainyard_core::expression::Template;
use trainyard_core::name::{DagName, ParamName};
use trainyard_core::overlap::{Concurrency, Overlap};
use trainyard_core::param::ParamSpec;
use trainyard_core::schedule::Missed;
use trainyard_core::stage::Stage;
use trainyard_core::trigger::{Pattern, PushTrigger, ScheduleTrigger, Triggers};

use super::param::{SpecDoc, ValuesDoc, values, values_doc};
use super::stage::{StageDoc, word};
use super::{latest_format, nanos, readable};
use crate::db::error::{Error, Result as StoreResult};

/// A key that no version has. A daemon that reads the next format for tests ignores it.
const KEY_OF_NO_VERSION: &str = "of_the_next_format";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DagDoc {
    format: i32,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    schedule: Vec<ScheduleDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    push: Option<PushDoc>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    params: BTreeMap<String, SpecDoc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    overlap: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ns: Option<u64>,
    stages: Vec<StageDoc>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScheduleDoc {
    cron: String,
    timezone: String,
    missed: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    params: ValuesDoc,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PushDoc {
    branches: Vec<String>,
    paths: Vec<String>,
}

/// Reads a DAG of this format; `what` names its row in the error.
pub(crate) fn read(
    mut spec: serde_json::Value,
    format: i32,
    what: impl Fn() -> String,
) -> StoreResult<Dag> {
    readable(format, &what)?;
    if trainyard_failpoint::reads_next_format()
        && let Some(keys) = spec.as_object_mut()
    {
        keys.remove(KEY_OF_NO_VERSION);
    }
    let doc: DagDoc = super::read(spec, &what)?;
    Dag::try_from(doc).map_err(|problem| Error::corrupt(what(), problem))
}

/// Reads the stored name of a rule for missed ticks.
pub(crate) fn missed(text: &str) -> Result<Missed, String> {
    word(text, Missed::ALL, Missed::as_str)
}

impl From<&Dag> for DagDoc {
    fn from(dag: &Dag) -> Self {
        let draft = dag.declared();
        let schedule = |schedule: &ScheduleTrigger| ScheduleDoc {
            cron: schedule.cron.as_str().to_owned(),
            timezone: schedule.timezone.name().to_owned(),
            missed: schedule.missed.as_str().to_owned(),
            params: values_doc(&schedule.params),
        };
        let texts = |patterns: &[Pattern]| {
            patterns
                .iter()
                .map(|pattern| pattern.as_str().to_owned())
                .collect()
        };
        Self {
            // The lowest format that can express the DAG.
            format: 1,
            name: draft.name.to_string(),
            description: draft.description.clone(),
            schedule: draft.triggers.schedule.iter().map(schedule).collect(),
            push: draft.triggers.push.as_ref().map(|push| PushDoc {
                branches: texts(&push.branches),
                paths: texts(&push.paths),
            }),
            params: draft
                .params
                .iter()
                .map(|(name, spec)| (name.to_string(), spec.into()))
                .collect(),
            limit: draft.concurrency.limit,
            overlap: draft.concurrency.overlap.as_str().to_owned(),
            group: draft
                .concurrency
                .group
                .as_ref()
                .map(|group| group.source().to_owned()),
            timeout_ns: draft.timeout.map(nanos),
            stages: draft.stages.iter().map(StageDoc::from).collect(),
        }
    }
}

impl TryFrom<DagDoc> for Dag {
    type Error = String;

    fn try_from(doc: DagDoc) -> Result<Self, String> {
        if !(1..=latest_format()).contains(&doc.format) {
            return Err(format!("format {} is not known", doc.format));
        }
        let patterns = |texts: Vec<String>| {
            texts
                .into_iter()
                .map(Pattern::new)
                .collect::<Result<Vec<_>, _>>()
        };
        let push = doc.push.map(|push| {
            Ok::<_, String>(PushTrigger {
                branches: patterns(push.branches)?,
                paths: patterns(push.paths)?,
            })
        });
        let params = doc.params.into_iter().map(|(name, spec)| {
            let name = ParamName::new(name).map_err(|fault| fault.to_string())?;
            Ok::<_, String>((name, ParamSpec::try_from(spec)?))
        });
        let draft = DagDraft {
            name: DagName::new(doc.name).map_err(|fault| fault.to_string())?,
            description: doc.description,
            triggers: Triggers {
                schedule: doc
                    .schedule
                    .into_iter()
                    .map(ScheduleTrigger::try_from)
                    .collect::<Result<_, _>>()?,
                push: push.transpose()?,
            },
            params: params.collect::<Result<_, _>>()?,
            concurrency: Concurrency {
                limit: doc.limit,
                overlap: word(&doc.overlap, Overlap::ALL, Overlap::as_str)?,
                group: doc.group.as_deref().map(Template::stored),
            },
            timeout: doc.timeout_ns.map(Duration::from_nanos),
            stages: doc
                .stages
                .into_iter()
                .map(Stage::try_from)
                .collect::<Result<_, _>>()?,
        };
        Self::stored(draft).map_err(|faults| {
            faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ")
        })
    }
}

impl TryFrom<ScheduleDoc> for ScheduleTrigger {
    type Error = String;

    fn try_from(doc: ScheduleDoc) -> Result<Self, String> {
        Ok(Self {
            cron: Cron::stored(&doc.cron)
                .ok_or_else(|| format!("`{}` is not a cron expression", doc.cron))?,
            timezone: doc
                .timezone
                .parse()
                .map_err(|_| format!("`{}` is not a time zone", doc.timezone))?,
            missed: missed(&doc.missed)?,
            params: values(doc.params)?,
        })
    }
}
