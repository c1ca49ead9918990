//! `stages` and `defaults`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::time::Duration;

use trainyard_core::expression::Template;
use trainyard_core::gate::GateRule;
use trainyard_core::name::{InputName, MetricName, PoolName, SecretName, StageName};
use trainyard_core::retry::Retry;
use trainyard_core::stage::{Checkout, Command, InputSource, PullPolicy, Resources, RunOn, Stage};
use trainyard_core::text::shortened;

use super::fields::{self, Fields};
use super::image::{DefaultImage, Image, image, pull, some_image, stage_image};
use super::output::{output_path, outputs, some_path};
use super::places::{ImagePlaces, StagePlaces};
use super::{
    Env, EnvPlaces, TIMEOUTS, arguments, env, expressions, is_ours, keys, retry, shell, unsupported,
};
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::{Key, Node, Value};

/// The longest script, in bytes.
const SCRIPT_LONGEST: usize = 100_000;

/// The values for stages that have none of their own.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    pub(super) image: DefaultImage,
    pub(super) pull: Option<PullPolicy>,
    shell: Option<Vec<String>>,
    checkout: Option<Checkout>,
    /// Over those of the DAG, and below those of a stage.
    pub(super) env: Env,
    pub(super) env_places: EnvPlaces,
    /// Each stage has them besides its own.
    pub(super) secrets: BTreeMap<SecretName, Range<usize>>,
    retry: Retry,
    timeout: Option<Duration>,
    resources: Resources,
}

/// Reads `defaults`.
pub(super) fn defaults(node: &Node, sink: &mut Sink<'_>) -> Defaults {
    let mut defaults = Defaults::default();
    let Some(fields) = Fields::of(node, "`defaults`", keys::DEFAULTS, sink) else {
        defaults.image = DefaultImage::Wrong;
        return defaults;
    };
    defaults.pull = pull(&fields, sink);
    let mut places = ImagePlaces::default();
    defaults.image = match image(&fields, "`defaults`", &mut places, sink) {
        Image::None => DefaultImage::None,
        Image::Wrong => DefaultImage::Wrong,
        Image::One(image) => DefaultImage::One(image, places),
    };
    defaults.shell = shell::shell(&fields, sink);
    defaults.checkout = checkout(&fields, sink);
    if let Some(node) = fields.get("env") {
        (defaults.env, defaults.env_places) = env(node, sink);
    }
    defaults.secrets = secrets(&fields, sink);
    if let Some(node) = fields.get("retry") {
        defaults.retry = retry::retry(node, &defaults.retry, sink);
    }
    defaults.timeout = timeout(&fields, sink);
    if let Some(node) = fields.get("resources") {
        defaults.resources = retry::resources(node, &defaults.resources, sink);
    }
    defaults
}

fn timeout(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<Duration> {
    fields::duration(fields.get("timeout")?, "the timeout", TIMEOUTS, sink)
}

fn checkout(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<Checkout> {
    let node = fields.get("checkout")?;
    let Value::Map(_) = &node.value else {
        return match fields::boolean(node, "`checkout`", sink)? {
            true => Some(Checkout::TREE),
            false => Some(Checkout::NONE),
        };
    };
    let fields = Fields::of(node, "`checkout`", keys::CHECKOUT, sink)?;
    let mut set = |key: &str| match fields.get(key) {
        Some(node) => fields::boolean(node, &format!("`{key}`"), sink) == Some(true),
        None => false,
    };
    Some(Checkout {
        tree: true,
        lfs: set("lfs"),
        submodules: set("submodules"),
    })
}

/// The values that stages have in common.
pub(super) struct Common<'a> {
    pub(super) env: &'a Env,
    pub(super) defaults: &'a Defaults,
    /// Names of stages that are not valid, as written: a reference to one of them is not reported as well.
    pub(super) unread_stages: &'a HashSet<&'a str>,
}

/// A stage, as far as it could be read: a wrong part is reported, and left out or replaced.
pub(super) struct Read {
    pub(super) stage: Stage,
    pub(super) places: StagePlaces,
    pub(super) has_unread_needs: bool,
    pub(super) has_unread_outputs: bool,
    /// A pipe of its script in which a failure may be ignored.
    pub(super) pipe: Option<Range<usize>>,
}

pub(super) fn read(
    name: StageName,
    key: &Key,
    node: &Node,
    common: &Common<'_>,
    sink: &mut Sink<'_>,
) -> Read {
    let mut places = StagePlaces {
        key: key.span.clone(),
        ..StagePlaces::default()
    };
    let what = format!("stage `{}`", shortened(&key.text));
    let Some(fields) = Fields::of(node, &what, keys::STAGE, sink) else {
        return Read {
            stage: unreadable(name),
            places,
            has_unread_needs: true,
            has_unread_outputs: true,
            pipe: None,
        };
    };
    let defaults = common.defaults;
    let (needs, has_unread_needs) = needs(&fields, common.unread_stages, &mut places, sink);
    let run_on = run_on(&fields, sink);
    let condition = fields.get("if").and_then(|node| {
        places.condition = Some(node.clone());
        expressions::condition(node, sink)
    });
    let image = stage_image(&what, key, &fields, defaults, &mut places.image, sink);
    shell::check_has_script(&what, &fields, sink);
    let shell = shell::shell(&fields, sink).or_else(|| defaults.shell.clone());
    let command = command(&fields, shell, &mut places, sink);
    let pipe = match (&command, fields.get("run")) {
        (Some(Command::Script(script)), Some(node)) => shell::pipe(&image, node, script, sink),
        _ => None,
    };
    let checkout = checkout(&fields, sink)
        .or(defaults.checkout)
        .unwrap_or(Checkout::TREE);
    let mut all_env = common.env.clone();
    if let Some(node) = fields.get("env") {
        let (own, own_places) = env(node, sink);
        all_env.extend(own);
        places.env = own_places;
    }
    arguments::check_all(&what, key, &all_env, command.as_ref(), sink);
    let mut all_secrets = secrets(&fields, sink);
    for (name, span) in &defaults.secrets {
        let span = || span.clone();
        all_secrets.entry(name.clone()).or_insert_with(span);
    }
    check_secrets(&all_secrets, &all_env, sink);
    let inputs = inputs(&fields, common.unread_stages, &mut places, sink);
    let (outputs, has_unread_outputs) = outputs(&fields, sink);
    let metrics = match fields.get("metrics") {
        // A wrong path still counts as one: gates and expressions do not lack it.
        Some(node) => output_path(node, "`metrics`", sink).or_else(some_path),
        None if fields.is_meant("metrics") => some_path(),
        None => None,
    };
    let gate = gate(&fields, &mut places, sink);
    let retry = match fields.get("retry") {
        None => defaults.retry.clone(),
        Some(node) => retry::retry(node, &defaults.retry, sink),
    };
    let resources = match fields.get("resources") {
        None => defaults.resources.clone(),
        Some(node) => retry::resources(node, &defaults.resources, sink),
    };
    let timeout = timeout(&fields, sink).or(defaults.timeout);
    let pools = pools(&fields, sink);
    unsupported::stage(&fields, sink);
    let stage = Stage {
        name,
        needs,
        run_on,
        condition,
        image,
        command,
        checkout,
        env: all_env,
        secrets: all_secrets.into_keys().collect(),
        inputs,
        outputs,
        metrics,
        gate,
        retry,
        timeout,
        resources,
        pools,
    };
    Read {
        stage,
        places,
        has_unread_needs,
        has_unread_outputs,
        pipe,
    }
}

/// A stage of which only the name is known.
fn unreadable(name: StageName) -> Stage {
    Stage {
        name,
        needs: Vec::new(),
        run_on: RunOn::ALL.into(),
        condition: None,
        image: some_image(),
        command: None,
        checkout: Checkout::TREE,
        env: Env::new(),
        secrets: BTreeSet::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        metrics: some_path(),
        gate: Vec::new(),
        retry: Retry::default(),
        timeout: None,
        resources: Resources::default(),
        pools: BTreeMap::new(),
    }
}

/// The stages that are needed, and whether there are more that could not be read.
fn needs(
    fields: &Fields<'_>,
    unread: &HashSet<&str>,
    places: &mut StagePlaces,
    sink: &mut Sink<'_>,
) -> (Vec<StageName>, bool) {
    let mut needs = Vec::new();
    let Some(node) = fields.get("needs") else {
        return (needs, fields.is_meant("needs"));
    };
    let items = fields::list_or_one(node, "`needs`", sink);
    let count = items.len();
    for item in items {
        let Some(text) = fields::text(item, "a stage's name", sink) else {
            continue;
        };
        if unread.contains(text) {
            continue;
        }
        if let Some(name) = fields::checked_name(text, &item.span, sink) {
            needs.push(name);
            places.needs.push(item.span.clone());
        }
    }
    let is_list = matches!(&node.value, Value::List(_) | Value::Scalar { .. });
    let is_unread = !is_list || needs.len() < count;
    (needs, is_unread)
}

fn run_on(fields: &Fields<'_>, sink: &mut Sink<'_>) -> BTreeSet<RunOn> {
    let choices = RunOn::ALL.map(|on| (on.as_str(), on));
    let Some(node) = fields.get("run_on") else {
        return if fields.is_meant("run_on") {
            RunOn::ALL.into()
        } else {
            BTreeSet::from([RunOn::Success])
        };
    };
    let items = fields::list_or_one(node, "`run_on`", sink);
    let found: BTreeSet<RunOn> = items
        .into_iter()
        .filter_map(|node| fields::one_of(node, "`run_on`", &choices, sink))
        .collect();
    if found.is_empty() {
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            fields::invalid(
                &node.span,
                "a stage that runs on nothing never runs".to_owned(),
                sink,
            );
        }
        // It could be any of them, so nothing follows from it.
        return RunOn::ALL.into();
    }
    found
}

fn command(
    fields: &Fields<'_>,
    shell: Option<Vec<String>>,
    places: &mut StagePlaces,
    sink: &mut Sink<'_>,
) -> Option<Command> {
    if let (Some(_), Some(key)) = (fields.get("run"), fields.key("command")) {
        sink.error(
            Code::Conflict,
            key.span.clone(),
            "a stage has `run` or `command`, not both",
        )
        .help("`run` is a shell script, `command` a program with its arguments");
    }
    if let Some(node) = fields.get("run") {
        let script = expressions::plain(node, "`run`", sink)?;
        if script.len() > SCRIPT_LONGEST {
            fields::invalid(
                &node.span,
                format!("a script has at most {SCRIPT_LONGEST} bytes"),
                sink,
            );
        }
        if script.trim().is_empty() {
            fields::invalid(&node.span, "the script is empty".to_owned(), sink);
        }
        return Some(match shell {
            None => Command::Script(script.to_owned()),
            Some(mut words) => {
                // After its last option, most programs would take a script that begins like one for another option.
                let is_like_option = script.starts_with(['-', '+']);
                words.push(format!(
                    "{}{script}",
                    if is_like_option { "\n" } else { "" }
                ));
                Command::Exec(words.into_iter().map(Template::literal).collect())
            }
        });
    }
    let node = fields.get("command")?;
    let Value::List(items) = &node.value else {
        sink.error(
            Code::WrongType,
            node.span.clone(),
            "`command` must be a list: the program and its arguments",
        )
        .help("write it as a list, or use `run` for a shell script");
        return None;
    };
    if items.is_empty() {
        fields::invalid(&node.span, "the command is empty".to_owned(), sink);
    }
    let mut templates: Vec<Template> = Vec::new();
    for item in fields::list(node, "`command`", sink).unwrap_or_default() {
        if let Some(template) = expressions::template(item, "the command", sink) {
            arguments::check_one("an argument of the command", 0, &template, item, sink);
            templates.push(template);
            places.command.push(item.clone());
        }
    }
    Some(Command::Exec(templates))
}

fn secrets(fields: &Fields<'_>, sink: &mut Sink<'_>) -> BTreeMap<SecretName, Range<usize>> {
    let mut secrets = BTreeMap::new();
    let Some(node) = fields.get("secrets") else {
        return secrets;
    };
    for item in fields::list_or_one(node, "`secrets`", sink) {
        let Some(name) = fields::name::<SecretName>(item, "a secret's name", sink) else {
            continue;
        };
        if secrets.insert(name.clone(), item.span.clone()).is_some() {
            sink.error(
                Code::DuplicateKey,
                item.span.clone(),
                format!("`{name}` stands here twice"),
            );
        }
    }
    secrets
}

fn check_secrets(secrets: &BTreeMap<SecretName, Range<usize>>, env: &Env, sink: &mut Sink<'_>) {
    for (name, span) in secrets {
        if is_ours(name.as_str()) || env.contains_key(name.as_str()) {
            let message = format!("`{name}` is a variable of the stage already");
            sink.error(Code::Conflict, span.clone(), message)
                .help("choose another name");
        }
    }
}

fn inputs(
    fields: &Fields<'_>,
    unread: &HashSet<&str>,
    places: &mut StagePlaces,
    sink: &mut Sink<'_>,
) -> BTreeMap<InputName, InputSource> {
    let mut inputs = BTreeMap::new();
    let Some(node) = fields.get("inputs") else {
        return inputs;
    };
    for (key, value) in fields::map(node, "`inputs`", sink).unwrap_or_default() {
        let name = fields::checked_name::<InputName>(&key.text, &key.span, sink);
        let from = match &value.value {
            Value::Map(_) => {
                let Some(inner) = Fields::of(value, "an input", keys::INPUT, sink) else {
                    continue;
                };
                unsupported::input(&inner, sink);
                match inner.get("from") {
                    Some(node) => node,
                    None => {
                        if inner.lacks("from") {
                            sink.error(Code::Missing, value.span.clone(), "an input needs `from`");
                        }
                        continue;
                    }
                }
            }
            Value::Null | Value::Scalar { .. } | Value::List(_) => value,
        };
        if let (Some(name), Some(source)) = (name, input_source(from, unread, sink)) {
            places.inputs.insert(name.clone(), from.span.clone());
            inputs.insert(name, source);
        }
    }
    inputs
}

fn input_source(node: &Node, unread: &HashSet<&str>, sink: &mut Sink<'_>) -> Option<InputSource> {
    let text = fields::text(node, "an input", sink)?;
    let Some((stage, output)) = text.split_once('.') else {
        sink.error(
            Code::InvalidValue,
            node.span.clone(),
            format!("`{}` does not name an output", shortened(text)),
        )
        .help("write STAGE.OUTPUT, as in train.model");
        return None;
    };
    if unread.contains(stage) {
        return None;
    }
    let stage_name =
        fields::checked_name(stage, &fields::part(node, &(0..stage.len()), sink), sink);
    let rest = stage.len() + 1..text.len();
    let output_name = fields::checked_name(output, &fields::part(node, &rest, sink), sink);
    Some(InputSource {
        stage: stage_name?,
        output: output_name?,
    })
}

fn gate(fields: &Fields<'_>, places: &mut StagePlaces, sink: &mut Sink<'_>) -> Vec<GateRule> {
    let mut rules = Vec::new();
    let Some(node) = fields.get("gate") else {
        return rules;
    };
    let items: Vec<&Node> = match &node.value {
        Value::Map(_) => vec![node],
        _ => fields::list(node, "`gate`", sink)
            .unwrap_or_default()
            .iter()
            .collect(),
    };
    for item in items {
        let Some(inner) = Fields::of(item, "a gate", keys::GATE, sink) else {
            continue;
        };
        let metric = match inner.get("metric") {
            Some(node) => fields::name::<MetricName>(node, "a metric's name", sink),
            None => {
                if inner.lacks("metric") {
                    sink.error(Code::Missing, item.span.clone(), "a gate needs a `metric`");
                }
                None
            }
        };
        let mut is_unread = inner.is_meant("min") || inner.is_meant("max");
        let mut bound = |key, what| {
            let bound = fields::number(inner.get(key)?, what, sink);
            is_unread |= bound.is_none();
            bound
        };
        let (min, max) = (bound("min", "`min`"), bound("max", "`max`"));
        // The report of the wrong bound is enough: the rule without it would be reported as well.
        if unsupported::gate(&inner, sink) || is_unread {
            continue;
        }
        if let Some(metric) = metric {
            rules.push(GateRule { metric, min, max });
            places.gate.push(item.span.clone());
        }
    }
    rules
}

fn pools(fields: &Fields<'_>, sink: &mut Sink<'_>) -> BTreeMap<PoolName, u32> {
    let mut pools = BTreeMap::new();
    let Some(node) = fields.get("pools") else {
        return pools;
    };
    let mut take = |name: &str, span: &Range<usize>, slots: u32, sink: &mut Sink<'_>| {
        if let Some(name) = fields::checked_name(name, span, sink) {
            sink.outside.add_pool(&name, span.clone());
            pools.insert(name, slots);
        }
    };
    match &node.value {
        Value::Map(_) => {
            for (key, value) in fields::map(node, "`pools`", sink).unwrap_or_default() {
                let slots = fields::integer(value, "a pool's slots", 1..=10_000, sink);
                if let Some(slots) = slots.and_then(|slots| u32::try_from(slots).ok()) {
                    take(&key.text, &key.span, slots, sink);
                }
            }
        }
        _ => {
            for item in fields::list_or_one(node, "`pools`", sink) {
                if let Some(name) = fields::text(item, "a pool's name", sink) {
                    take(name, &item.span, 1, sink);
                }
            }
        }
    }
    pools
}
