//! From the tree to a draft, field by field, and from the core's faults back to the text.

mod absent_inputs;
mod arguments;
mod expressions;
mod fields;
mod forms;
mod gate;
mod habits;
mod image;
mod needs;
mod output;
mod params;
mod places;
mod retry;
mod shell;
mod stage;
mod synonyms;
mod triggers;
mod values;

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

use self::places::Places;
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::document;
use crate::limits::{VARIABLES_AT_MOST, VARIABLES_LARGEST};
use crate::tree::{Node, Value};

/// Reads the tree of a file, and reports its faults. A part that is wrong is left out or replaced, and reading goes on.
pub(crate) struct FileReader<'a> {
    pub(crate) sink: Sink<'a>,
}

/// The shortest and the longest timeout.
const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

/// The most active runs that a limit may permit.
const LIMIT_AT_MOST: i64 = 1_000;

/// The longest description, in characters.
const DESCRIPTION_LONGEST: usize = 1_000;

impl FileReader<'_> {
    /// Reads a DAG. `None` where too much is wrong to check the stages against each other.
    pub(crate) fn dag(&mut self, file_name: &str, root: &Node) -> Option<Dag> {
        let root = &without_extensions(root);
        let fields = self.fields(root, "a DAG file", document::Dag::FORM)?;
        let mut unread = Unread::default();
        let mut places = Places {
            root: 0..root.span.start,
            ..Places::default()
        };
        let name = match fields.get("name") {
            Some(node) => {
                self.sink.outside.named_at = node.span.clone();
                self.name::<DagName>(node, "the name")
            }
            None => self.name_of_file(file_name),
        };
        let description = fields.get("description").and_then(|node| {
            let text = self.text(node, "the description")?;
            if text.chars().count() > DESCRIPTION_LONGEST {
                let message =
                    format!("the description is longer than {DESCRIPTION_LONGEST} characters");
                self.invalid(&node.span, message);
            }
            Some(text.to_owned())
        });
        if fields.is_meant("params") {
            unread.params = Names::Any;
        }
        let params = fields
            .get("params")
            .map(|node| self.params(node, &mut unread.params))
            .unwrap_or_default();
        let triggers = fields
            .get("triggers")
            .map(|node| self.triggers(node, &params, &unread.params, &mut places))
            .unwrap_or_default();
        let concurrency = fields
            .get("concurrency")
            .and_then(|node| self.concurrency(node, &mut places))
            .unwrap_or_default();
        let timeout = fields
            .get("timeout")
            .and_then(|node| self.duration(node, "the timeout", TIMEOUTS));
        let (mut env_of_all, env_places) = fields
            .get("env")
            .map(|node| self.env(node))
            .unwrap_or_default();
        places.env = env_places;
        let mut defaults = fields
            .get("defaults")
            .map(|node| self.defaults(node))
            .unwrap_or_default();
        if fields.is_meant("defaults") {
            defaults.image = image::DefaultImage::Wrong;
        }
        env_of_all.append(&mut defaults.env);
        places.env.append(&mut defaults.env_places);
        let mut stages = Vec::new();
        let mut pipes = Vec::new();
        let mut written = BTreeMap::new();
        match fields.get("stages") {
            None => {
                if fields.lacks("stages") {
                    self.sink.error(
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
                let entries = self.all(node, "stages")?;
                if entries.len() > STAGES_AT_MOST {
                    let message = format!(
                        "a DAG may have at most {STAGES_AT_MOST} stages, this one has {}",
                        entries.len()
                    );
                    self.sink.error(Code::Graph, places.root.clone(), message);
                    return None;
                }
                let in_each = defaults.secrets.len() + defaults.image.args();
                if let Some(message) = too_many_variables(&env_of_all, in_each, entries.len()) {
                    let key = fields.key("env").or_else(|| fields.key("defaults"));
                    let span = key.map_or(0..0, |key| key.span.clone());
                    self.sink
                        .error(Code::TooLarge, span, message)
                        .help("put them into the `env` of those stages that need them");
                    return None;
                }
                let mut names = StageNames::of(entries.iter().map(|(key, _)| &*key.text));
                let mut seen = HashSet::with_capacity(entries.len());
                for (key, value) in entries {
                    let name = names.name(&key.text, &key.span, &mut unread.stages, self);
                    let common = stage::Common {
                        env: &env_of_all,
                        defaults: &defaults,
                        unread_stages: &names.invalid,
                    };
                    let read = self.stage(name, key, value, &common);
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
        self.warn_of_pipes(&pipes);
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
                absent_inputs::warn(&dag, &places, &mut self.sink);
                named.then_some(dag)
            }
            Err(faults) => {
                for fault in faults {
                    let span = places.of(&fault, self);
                    // People know a stage by the name that they wrote.
                    let stage = fault.place.stage().and_then(|stage| written.get(&stage));
                    let named = |text: String| match stage {
                        Some((name, written)) => text.replace(name, &format!("`{written}`")),
                        None => text,
                    };
                    self.sink
                        .error(Code::Graph, span, named(fault.message))
                        .maybe_help(fault.help.map(named));
                }
                None
            }
        }
    }

    fn name_of_file(&mut self, file_name: &str) -> Option<DagName> {
        let stem = Path::new(file_name)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        match DagName::new(stem.as_ref()) {
            Ok(name) => Some(name),
            Err(error) => {
                self.sink
                    .error(
                        Code::Missing,
                        0..0,
                        format!("the file's name does not make a DAG's name: {error}"),
                    )
                    .help("rename the file, or add `name:`");
                None
            }
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
        reader: &mut FileReader<'_>,
    ) -> StageName {
        if let Some(name) = reader.checked_name(text, span) {
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

impl FileReader<'_> {
    fn concurrency(&mut self, node: &Node, places: &mut Places) -> Option<Concurrency> {
        let fields = self.fields(node, "concurrency", document::Concurrency::FORM)?;
        let limit = fields
            .get("limit")
            .and_then(|node| self.integer(node, "the limit", 1..=LIMIT_AT_MOST))
            .and_then(|limit| u32::try_from(limit).ok());
        let choices = Overlap::ALL.map(|overlap| (overlap.as_str(), overlap));
        let overlap = fields
            .get("overlap")
            .and_then(|node| self.one_of(node, "overlap", &choices));
        let is_without_limit = fields.lacks("limit") && fields.lacks("group");
        if let Some(key) = fields.key("overlap").filter(|_| is_without_limit) {
            self.sink
                .error(
                    Code::Missing,
                    key.span.clone(),
                    "`overlap` has no effect without `limit`",
                )
                .help("add `limit: 1`, or a `group`");
        }
        let group = fields
            .get("group")
            .and_then(|node| self.group(node, places));
        Some(Concurrency {
            limit: limit.or(group.is_some().then_some(1)),
            overlap: overlap.unwrap_or_default(),
            group,
        })
    }
}

/// The text before an expression that makes it a text's only part.
const OPEN: &str = "${{ ";

impl FileReader<'_> {
    /// The expression that makes groups of runs, with or without `${{ … }}`.
    fn group(&mut self, node: &Node, places: &mut Places) -> Option<Template> {
        let text = self.text(node, "`group`")?;
        if text.contains("${{") {
            places.group = Some((node.clone(), 0));
            return self.template(node, "`group`");
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
                self.bad_expression(node, "`group`", fault);
            })
            .ok()
    }
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

impl FileReader<'_> {
    /// Reads a map of environment variables.
    fn env(&mut self, node: &Node) -> (Env, EnvPlaces) {
        let (mut env, mut places) = (Env::new(), EnvPlaces::new());
        for (key, value) in self.map(node, "env").unwrap_or_default() {
            let name = self.checked_name::<VariableName>(&key.text, &key.span);
            if is_ours(&key.text) {
                let message = format!("`{}` is set by Trainyard itself", shortened(&key.text));
                self.sink
                    .error(Code::InvalidValue, key.span.clone(), message)
                    .help("choose another name");
            }
            let what = format!("the variable `{}`", shortened(&key.text));
            let template = match &value.value {
                // An empty variable is a variable.
                Value::Null => Some(Template::literal("")),
                _ => self.template(value, &what),
            };
            if let Some(template) = &template {
                self.check_argument(&what, key.text.len() + 1, template, value);
                self.warn_of_habits(&what, template, value);
            }
            if let (Some(name), Some(template)) = (name, template) {
                places.insert(name.clone(), value.clone());
                env.insert(name, template);
            }
        }
        (env, places)
    }
}
