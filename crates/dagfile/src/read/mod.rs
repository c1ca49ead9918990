//! From the tree to a draft, field by field, and from the core's faults back to the text.

mod absent_inputs;
mod arguments;
mod expressions;
mod fields;
mod forms;
mod image;
pub(crate) mod keys;
mod output;
mod params;
mod places;
mod retry;
mod shell;
mod stage;
mod synonyms;
mod triggers;
mod unsupported;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use trainyard_core::dag::{Dag, DagDraft, Names, STAGES_AT_MOST, Unread};
use trainyard_core::expression::Template;
use trainyard_core::measure::counted;
use trainyard_core::name::{DagName, StageName, VariableName};
use trainyard_core::overlap::{Concurrency, Overlap};
use trainyard_core::stage::StageIndex;
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

/// Reads a DAG. `None` where too much is wrong to check the stages against each other.
pub(crate) fn dag(file_name: &str, root: &Node, sink: &mut Sink<'_>) -> Option<Dag> {
    let root = &without_extensions(root);
    let fields = Fields::of(root, "a DAG file", keys::DAG, sink)?;
    let mut unread = Unread::default();
    let mut places = Places {
        root: 0..root.span.start,
        ..Places::default()
    };
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
    if fields.is_meant("params") {
        unread.params = Names::Any;
    }
    let params = fields
        .get("params")
        .map(|node| params::read(node, &mut unread.params, sink))
        .unwrap_or_default();
    let triggers = fields
        .get("triggers")
        .map(|node| triggers::read(node, &params, &unread.params, &mut places, sink))
        .unwrap_or_default();
    let concurrency = fields
        .get("concurrency")
        .and_then(|node| concurrency(node, &mut places, sink))
        .unwrap_or_default();
    let timeout = fields
        .get("timeout")
        .and_then(|node| fields::duration(node, "the timeout", TIMEOUTS, sink));
    let (mut env_of_all, env_places) = fields
        .get("env")
        .map(|node| env(node, sink))
        .unwrap_or_default();
    places.env = env_places;
    let mut defaults = fields
        .get("defaults")
        .map(|node| stage::defaults(node, sink))
        .unwrap_or_default();
    if fields.is_meant("defaults") {
        defaults.image = image::DefaultImage::Wrong;
    }
    env_of_all.append(&mut defaults.env);
    places.env.append(&mut defaults.env_places);
    if let Some(key) = fields.key("notify") {
        unsupported::notify(key, fields.get("notify"), sink);
    }
    let mut stages = Vec::new();
    let mut pipes = Vec::new();
    let mut written = BTreeMap::new();
    match fields.get("stages") {
        None => {
            if fields.lacks("stages") {
                sink.error(
                    Code::Missing,
                    root.span.start..root.span.start,
                    "a DAG needs `stages`",
                )
                .help("the smallest DAG is `stages: {hello: {image: alpine:3, run: echo hi}}`");
            }
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
            let in_each = defaults.secrets.len() + defaults.image.args();
            if let Some(message) = too_many_variables(&env_of_all, in_each, entries.len()) {
                let key = fields.key("env").or_else(|| fields.key("defaults"));
                let span = key.map_or(0..0, |key| key.span.clone());
                sink.error(Code::TooLarge, span, message)
                    .help("put them into the `env` of those stages that need them");
                return None;
            }
            let mut names = StageNames::of(entries.iter().map(|(key, _)| &*key.text));
            let mut seen = HashSet::with_capacity(entries.len());
            for (key, value) in entries {
                let name = names.name(&key.text, &key.span, &mut unread.stages, sink);
                let common = stage::Common {
                    env: &env_of_all,
                    defaults: &defaults,
                    unread_stages: &names.invalid,
                };
                let read = stage::read(name, key, value, &common, sink);
                // The duplicate key is reported already; its value is read all the same.
                if !seen.insert(&*key.text) {
                    continue;
                }
                let at = StageIndex(stages.len());
                if read.stage.name.as_str() != &*key.text {
                    let name = format!("`{}`", read.stage.name);
                    written.insert(at, (name, shortened(&key.text)));
                }
                if read.has_unread_needs {
                    unread.needs.insert(at);
                }
                if read.has_unread_outputs {
                    unread.outputs.insert(at);
                }
                pipes.extend(read.pipe.map(|at| (&*key.text, at)));
                stages.push(read.stage);
                places.stages.push(read.places);
            }
        }
    }
    shell::warn_of_pipes(&pipes, sink);
    // With a wrong name, the stages are still checked against each other.
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
    match Dag::read(draft, &unread) {
        Ok(dag) => {
            absent_inputs::warn(&dag, &places, sink);
            named.then_some(dag)
        }
        Err(faults) => {
            for fault in faults {
                let span = places.of(&fault, sink);
                // People know a stage by the name that they wrote.
                let stage = fault.place.stage().and_then(|stage| written.get(&stage));
                let named = |text: String| match stage {
                    Some((name, written)) => text.replace(name, &format!("`{written}`")),
                    None => text,
                };
                sink.error(Code::Graph, span, named(fault.message))
                    .maybe_help(fault.help.map(named));
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

/// The names of stages, with placeholders for those that are not valid.
struct StageNames<'n> {
    taken: HashSet<&'n str>,
    /// Those that are not valid, as written.
    invalid: HashSet<&'n str>,
    count: usize,
}

impl<'n> StageNames<'n> {
    fn of(names: impl Iterator<Item = &'n str>) -> Self {
        let (taken, invalid) = names.partition(|name| StageName::new(*name).is_ok());
        Self {
            taken,
            invalid,
            count: 0,
        }
    }

    /// The name of a stage. A name that is not valid is reported and replaced by a valid one,
    /// so that reading can go on.
    fn name(
        &mut self,
        text: &str,
        span: &Range<usize>,
        unread: &mut Names,
        sink: &mut Sink<'_>,
    ) -> StageName {
        if let Some(name) = fields::checked_name(text, span, sink) {
            return name;
        }
        unread.add(text);
        loop {
            self.count += 1;
            let name = format!("stage-{}", self.count);
            if let (false, Ok(name)) = (self.taken.contains(&*name), StageName::new(name.clone())) {
                return name;
            }
        }
    }
}

/// The file without its `x-` keys, which hold the maps that merge keys refer to.
fn without_extensions(root: &Node) -> Node {
    match &root.value {
        Value::Map(fields) => Node {
            span: root.span.clone(),
            value: Value::Map(
                fields
                    .iter()
                    .filter(|(key, _)| !key.text.starts_with("x-"))
                    .cloned()
                    .collect(),
            ),
        },
        _ => root.clone(),
    }
}

fn concurrency(node: &Node, places: &mut Places, sink: &mut Sink<'_>) -> Option<Concurrency> {
    let fields = Fields::of(node, "concurrency", keys::CONCURRENCY, sink)?;
    let limit = fields
        .get("limit")
        .and_then(|node| fields::integer(node, "the limit", 1..=LIMIT_AT_MOST, sink))
        .and_then(|limit| u32::try_from(limit).ok());
    let choices = Overlap::ALL.map(|overlap| (overlap.as_str(), overlap));
    let overlap = fields
        .get("overlap")
        .and_then(|node| fields::one_of(node, "overlap", &choices, sink));
    let is_without_limit = fields.lacks("limit") && fields.lacks("group");
    if let Some(key) = fields.key("overlap").filter(|_| is_without_limit) {
        sink.error(
            Code::Missing,
            key.span.clone(),
            "`overlap` has no effect without `limit`",
        )
        .help("add `limit: 1`, or a `group`");
    }
    let group = fields
        .get("group")
        .and_then(|node| group(node, places, sink));
    Some(Concurrency {
        limit: limit.or(group.is_some().then_some(1)),
        overlap: overlap.unwrap_or_default(),
        group,
    })
}

/// The text before an expression that makes it a text's only part.
const OPEN: &str = "${{ ";

/// The expression that makes groups of runs, with or without `${{ … }}`.
fn group(node: &Node, places: &mut Places, sink: &mut Sink<'_>) -> Option<Template> {
    let text = fields::text(node, "`group`", sink)?;
    if text.contains("${{") {
        places.group = Some((node.clone(), 0));
        return expressions::template(node, "`group`", sink);
    }
    places.group = Some((node.clone(), OPEN.len()));
    let expression = if text.trim() == "branch" {
        "cause.branch"
    } else {
        text
    };
    Template::parse(&format!("{OPEN}{expression} }}}}"))
        .map_err(|mut fault| {
            let moved = |at: usize| at.saturating_sub(OPEN.len()).min(text.len());
            fault.range = moved(fault.range.start)..moved(fault.range.end);
            expressions::say(node, "`group`", fault, sink);
        })
        .ok()
}

type Env = BTreeMap<VariableName, Template>;
type EnvPlaces = BTreeMap<VariableName, Node>;

/// Each stage has all variables of the DAG, and all secrets and build arguments of `defaults`, so a few of
/// either make many of both.
fn too_many_variables(env: &Env, others: usize, stages: usize) -> Option<String> {
    let bytes: usize = env
        .iter()
        .map(|(name, value)| name.as_str().len() + value.source().len())
        .sum();
    let count = env.len() + others;
    if count.saturating_mul(stages) > VARIABLES_AT_MOST {
        Some(format!(
            "{count} variables in each of {} are more than {VARIABLES_AT_MOST} together",
            counted(stages as u64, "stage")
        ))
    } else if bytes.saturating_mul(stages) > VARIABLES_LARGEST {
        Some(format!(
            "variables of {bytes} bytes in each of {} are more than {VARIABLES_LARGEST} bytes together",
            counted(stages as u64, "stage")
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
            // An empty variable is a variable.
            Value::Null => Some(Template::literal("")),
            _ => expressions::template(value, &what, sink),
        };
        if let Some(template) = &template {
            arguments::check_one(&what, key.text.len() + 1, template, value, sink);
        }
        if let (Some(name), Some(template)) = (name, template) {
            places.insert(name.clone(), value.clone());
            env.insert(name, template);
        }
    }
    (env, places)
}
