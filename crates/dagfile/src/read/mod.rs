//! From the tree to a draft, field by field, and from the core's faults back to the text.

mod expressions;
mod fields;
pub(crate) mod keys;
mod params;
mod places;
mod retry;
mod stage;
mod synonyms;
mod triggers;
mod unsupported;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use trainyard_core::dag::{Dag, DagDraft, STAGES_AT_MOST};
use trainyard_core::expression::Template;
use trainyard_core::name::{DagName, VariableName};
use trainyard_core::overlap::{Concurrency, Overlap};
use trainyard_core::text::shortened;

use self::fields::Fields;
use self::places::Places;
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::limits::{VARIABLES_AT_MOST, VARIABLES_LARGEST};
use crate::tree::{Node, Value};

/// The shortest and the longest timeout.
const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

/// The most active runs that a limit may permit.
const LIMIT_AT_MOST: i64 = 1_000;

/// The longest description, in characters.
const DESCRIPTION_LONGEST: usize = 1_000;

/// Reads a DAG. `None` where too much is wrong for the stages to be held against each other.
pub(crate) fn dag(file_name: &str, root: &Node, sink: &mut Sink<'_>) -> Option<Dag> {
    let fields = Fields::of(root, "a DAG file", keys::DAG, sink)?;
    let name = match fields.get("name") {
        Some(node) => fields::name::<DagName>(node, "the name", sink),
        None => name_of_file(file_name, sink),
    };
    let description = fields.get("description").and_then(|node| {
        let text = fields::text(node, "the description", sink)?;
        if text.chars().count() > DESCRIPTION_LONGEST {
            let message =
                format!("the description is longer than {DESCRIPTION_LONGEST} characters");
            fields::invalid(&node.span, message, sink);
        }
        Some(text.to_owned())
    });
    let params = fields
        .get("params")
        .map(|node| params::read(node, sink))
        .unwrap_or_default();
    let (triggers, schedule_places) = fields
        .get("triggers")
        .map(|node| triggers::read(node, &params, sink))
        .unwrap_or_default();
    let concurrency = fields
        .get("concurrency")
        .and_then(|node| concurrency(node, sink))
        .unwrap_or_default();
    let timeout = fields
        .get("timeout")
        .and_then(|node| fields::duration(node, "the timeout", TIMEOUTS, sink));
    let (env, env_places) = fields
        .get("env")
        .map(|node| env(node, sink))
        .unwrap_or_default();
    let defaults = fields
        .get("defaults")
        .map(|node| stage::defaults(node, sink))
        .unwrap_or_default();
    if let Some(key) = fields.key("notify") {
        unsupported::notify(key, fields.get("notify"), sink);
    }
    let mut places = Places {
        root: 0..root.span.start,
        schedules: schedule_places,
        env: env_places,
        stages: Vec::new(),
    };
    let mut stages = Vec::new();
    match fields.get("stages") {
        None => {
            sink.error(
                Code::Missing,
                root.span.start..root.span.start,
                "a DAG needs `stages`",
            )
            .help("the smallest DAG is `stages: {hello: {image: alpine:3, run: echo hi}}`");
            return None;
        }
        Some(node) => {
            places.root = fields.key("stages").map_or(0..0, |key| key.span.clone());
            let entries = fields::all(node, "stages", sink)?;
            if entries.len() > STAGES_AT_MOST {
                let message = format!(
                    "a DAG may have at most {STAGES_AT_MOST} stages, this one has {}",
                    entries.len()
                );
                sink.error(Code::Graph, places.root.clone(), message);
                return None;
            }
            if let Some(message) = too_many_variables(&env, entries.len()) {
                let span = fields.key("env").map_or(0..0, |key| key.span.clone());
                sink.error(Code::TooLarge, span, message)
                    .help("put them into the `env` of those stages that need them");
                return None;
            }
            let mut seen = HashSet::with_capacity(entries.len());
            for (key, value) in entries {
                if !seen.insert(&*key.text) {
                    continue; // Said already: the key stands twice.
                }
                let (stage, stage_places) = stage::read(key, value, &env, &defaults, sink);
                stages.push(stage);
                places.stages.push(stage_places);
            }
        }
    }
    // Stages that are wrong in themselves still count by their names, so that what refers to them
    // is not called wrong as well.
    let incomplete = stages.iter().any(Option::is_none);
    let stages: Vec<_> = stages.into_iter().flatten().collect();
    // Nor does a wrong name keep the stages from being held against each other.
    let named = name.is_some();
    let draft = DagDraft {
        name: name.or_else(|| DagName::new("unnamed").ok())?,
        description,
        triggers,
        params,
        concurrency,
        timeout,
        stages,
    };
    if incomplete {
        return None;
    }
    match Dag::new(draft) {
        Ok(dag) => named.then_some(dag),
        Err(faults) => {
            for fault in faults {
                let span = places.of(&fault, sink);
                sink.error(Code::Graph, span, fault.message)
                    .maybe_help(fault.help);
            }
            None
        }
    }
}

fn name_of_file(file_name: &str, sink: &mut Sink<'_>) -> Option<DagName> {
    let stem = Path::new(file_name)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    match DagName::new(stem.as_ref()) {
        Ok(name) => Some(name),
        Err(error) => {
            sink.error(
                Code::Missing,
                0..0,
                format!("the file's name does not make a DAG's name: {error}"),
            )
            .help("rename the file, or add `name:`");
            None
        }
    }
}

fn concurrency(node: &Node, sink: &mut Sink<'_>) -> Option<Concurrency> {
    let fields = Fields::of(node, "concurrency", keys::CONCURRENCY, sink)?;
    let limit = fields
        .get("limit")
        .and_then(|node| fields::integer(node, "the limit", 1..=LIMIT_AT_MOST, sink))
        .and_then(|limit| u32::try_from(limit).ok());
    let choices = Overlap::ALL.map(|overlap| (overlap.as_str(), overlap));
    let overlap = fields
        .get("overlap")
        .and_then(|node| fields::one_of(node, "overlap", &choices, sink));
    if let (Some(key), None) = (fields.key("overlap"), fields.get("limit")) {
        sink.error(
            Code::Missing,
            key.span.clone(),
            "`overlap` says nothing without a `limit`",
        )
        .help("add `limit: 1`");
    }
    Some(Concurrency {
        limit,
        overlap: overlap.unwrap_or_default(),
    })
}

type Env = BTreeMap<VariableName, Template>;
type EnvPlaces = BTreeMap<VariableName, Node>;

/// Each stage has all variables of the DAG, so a few of either make many of both.
fn too_many_variables(env: &Env, stages: usize) -> Option<String> {
    let bytes: usize = env
        .iter()
        .map(|(name, value)| name.as_str().len() + value.source().len())
        .sum();
    if env.len().saturating_mul(stages) > VARIABLES_AT_MOST {
        let count = env.len();
        Some(format!(
            "{count} variables in each of {stages} stages are more than {VARIABLES_AT_MOST} together"
        ))
    } else if bytes.saturating_mul(stages) > VARIABLES_LARGEST {
        Some(format!(
            "variables of {bytes} bytes in each of {stages} stages are more than {VARIABLES_LARGEST} bytes together"
        ))
    } else {
        None
    }
}

/// Variables that Trainyard sets itself.
fn is_ours(name: &str) -> bool {
    name.starts_with("TRAINYARD_") || matches!(name, "CI" | "INPUTS" | "OUTPUTS")
}

/// Reads a map of environment variables.
fn env(node: &Node, sink: &mut Sink<'_>) -> (Env, EnvPlaces) {
    let (mut env, mut places) = (Env::new(), EnvPlaces::new());
    for (key, value) in fields::map(node, "env", sink).unwrap_or_default() {
        let name = fields::checked_name::<VariableName>(&key.text, &key.span, sink);
        if is_ours(&key.text) {
            let message = format!("`{}` is set by Trainyard itself", shortened(&key.text));
            sink.error(Code::InvalidValue, key.span.clone(), message)
                .help("choose another name");
        }
        let what = format!("the variable `{}`", shortened(&key.text));
        let template = match &value.value {
            // An empty variable is one.
            Value::Null => Some(Template::literal("")),
            _ => expressions::template(value, &what, sink),
        };
        if let (Some(name), Some(template)) = (name, template) {
            places.insert(name.clone(), value.clone());
            env.insert(name, template);
        }
    }
    (env, places)
}
