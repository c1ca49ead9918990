//! `stages` and `defaults`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use trainyard_core::expression::Template;
use trainyard_core::gate::GateRule;
use trainyard_core::image::ImageReference;
use trainyard_core::name::{
    InputName, MetricName, OutputName, PoolName, SecretName, StageName, VariableName,
};
use trainyard_core::retry::Retry;
use trainyard_core::stage::{
    BuildSource, Checkout, Command, ImageSource, InputSource, PullPolicy, RelativePath, Resources,
    RunOn, Stage,
};
use trainyard_core::text::shortened;

use super::fields::{self, Fields};
use super::places::StagePlaces;
use super::{Env, TIMEOUTS, env, expressions, is_ours, keys, retry, unsupported};
use crate::diagnostic::{DiagnosticCode as Code, Sink};
use crate::tree::{Key, Node, Value};

/// The longest script, in bytes.
const SCRIPT_LONGEST: usize = 100_000;

/// What holds for stages that say nothing themselves.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    retry: Retry,
    resources: Resources,
    timeout: Option<Duration>,
    checkout: Option<Checkout>,
    pull: Option<PullPolicy>,
}

/// Reads `defaults`.
pub(super) fn defaults(node: &Node, sink: &mut Sink<'_>) -> Defaults {
    let mut defaults = Defaults::default();
    let Some(fields) = Fields::of(node, "`defaults`", keys::DEFAULTS, sink) else {
        return defaults;
    };
    if let Some(node) = fields.get("retry") {
        defaults.retry = retry::retry(node, &defaults.retry, sink);
    }
    if let Some(node) = fields.get("resources") {
        defaults.resources = retry::resources(node, &defaults.resources, sink);
    }
    defaults.timeout = timeout(&fields, sink);
    defaults.checkout = checkout(&fields, sink);
    defaults.pull = pull(&fields, sink);
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

fn pull(fields: &Fields<'_>, sink: &mut Sink<'_>) -> Option<PullPolicy> {
    let choices = PullPolicy::ALL.map(|policy| (policy.as_str(), policy));
    fields::one_of(fields.get("pull")?, "`pull`", &choices, sink)
}

/// Reads one stage. `None` where it cannot be one; its places are there in any case.
pub(super) fn read(
    key: &Key,
    node: &Node,
    dag_env: &Env,
    defaults: &Defaults,
    sink: &mut Sink<'_>,
) -> (Option<Stage>, StagePlaces) {
    let mut places = StagePlaces {
        key: key.span.clone(),
        ..StagePlaces::default()
    };
    let name = fields::checked_name::<StageName>(&key.text, &key.span, sink);
    let what = format!("stage `{}`", shortened(&key.text));
    let Some(fields) = Fields::of(node, &what, keys::STAGE, sink) else {
        return (None, places);
    };
    let needs = needs(&fields, &mut places, sink);
    let run_on = run_on(&fields, sink);
    let condition = fields.get("if").and_then(|node| {
        places.condition = Some(node.clone());
        expressions::condition(node, sink)
    });
    let image = image(&what, key, &fields, defaults, &mut places, sink);
    let command = command(&fields, &mut places, sink);
    let checkout = checkout(&fields, sink)
        .or(defaults.checkout)
        .unwrap_or(Checkout::TREE);
    let mut all_env = dag_env.clone();
    if let Some(node) = fields.get("env") {
        let (own, own_places) = env(node, sink);
        all_env.extend(own);
        places.env = own_places;
    }
    let secrets = secrets(&fields, &all_env, sink);
    let inputs = inputs(&fields, &mut places, sink);
    let outputs = outputs(&fields, sink);
    let metrics = fields
        .get("metrics")
        .and_then(|node| path(node, "`metrics`", sink));
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
    let stage = name.zip(image).map(|(name, image)| Stage {
        name,
        needs,
        run_on,
        condition,
        image,
        command,
        checkout,
        env: all_env,
        secrets,
        inputs,
        outputs,
        metrics,
        gate,
        retry,
        timeout,
        resources,
        pools,
    });
    (stage, places)
}

fn needs(fields: &Fields<'_>, places: &mut StagePlaces, sink: &mut Sink<'_>) -> Vec<StageName> {
    let mut needs = Vec::new();
    let Some(node) = fields.get("needs") else {
        return needs;
    };
    for item in fields::list_or_one(node, "`needs`", sink) {
        if let Some(name) = fields::name(item, "a stage's name", sink) {
            needs.push(name);
            places.needs.push(item.span.clone());
        }
    }
    needs
}

fn run_on(fields: &Fields<'_>, sink: &mut Sink<'_>) -> BTreeSet<RunOn> {
    let choices = RunOn::ALL.map(|on| (on.as_str(), on));
    let Some(node) = fields.get("run_on") else {
        return BTreeSet::from([RunOn::Success]);
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
        return BTreeSet::from([RunOn::Success]);
    }
    found
}

fn image(
    what: &str,
    key: &Key,
    fields: &Fields<'_>,
    defaults: &Defaults,
    places: &mut StagePlaces,
    sink: &mut Sink<'_>,
) -> Option<ImageSource> {
    let own_pull = pull(fields, sink);
    match (fields.get("image"), fields.get("build")) {
        (Some(node), None) => {
            places.image = Some(node.clone());
            let image = expressions::template(node, "the image", sink)?;
            if image.is_literal()
                && let Err(fault) = ImageReference::requested(image.source())
            {
                let end = image.source().len();
                let span = fields::part(node, &(fault.at..end.max(fault.at + 1)), sink);
                fields::invalid(&span, fault.to_string(), sink);
                return None;
            }
            Some(ImageSource::Reference {
                image,
                pull: own_pull.or(defaults.pull).unwrap_or_default(),
            })
        }
        (None, Some(node)) => {
            places.image = Some(node.clone());
            if let Some(key) = fields.key("pull") {
                sink.error(
                    Code::Conflict,
                    key.span.clone(),
                    "`pull` does not go with `build`",
                );
            }
            build(node, places, sink).map(ImageSource::Build)
        }
        (Some(_), Some(_)) => {
            let span = fields
                .key("build")
                .map_or(key.span.clone(), |key| key.span.clone());
            sink.error(
                Code::Conflict,
                span,
                format!("{what} has both `image` and `build`"),
            )
            .help("keep one: an image by reference, or one built from the commit");
            None
        }
        (None, None) => {
            // An approval, once supported, needs none; it is refused by itself.
            if fields.get("approval").is_none() {
                sink.error(
                    Code::Missing,
                    key.span.clone(),
                    format!("{what} needs an `image`"),
                )
                .help("add `image: alpine:3`, or `build: .` to build one from the commit");
            }
            None
        }
    }
}

fn build(node: &Node, places: &mut StagePlaces, sink: &mut Sink<'_>) -> Option<BuildSource> {
    let default_file = RelativePath::new("Dockerfile").ok()?;
    if let Value::Scalar { .. } = &node.value {
        let context = path(node, "the context", sink)?;
        let (dockerfile, args) = (default_file, BTreeMap::new());
        return Some(BuildSource {
            context,
            dockerfile,
            args,
            target: None,
        });
    }
    let fields = Fields::of(node, "`build`", keys::BUILD, sink)?;
    let context = match fields.get("context") {
        None => RelativePath::new(".").ok(),
        Some(node) => path(node, "the context", sink),
    };
    let dockerfile = match fields.get("dockerfile") {
        None => Some(default_file),
        Some(node) => path(node, "the Dockerfile", sink),
    };
    let mut args = BTreeMap::new();
    if let Some(node) = fields.get("args") {
        for (key, value) in fields::map(node, "build arguments", sink).unwrap_or_default() {
            let name = fields::checked_name::<VariableName>(&key.text, &key.span, sink);
            let value_template = expressions::template(value, "a build argument", sink);
            if let (Some(name), Some(template)) = (name, value_template) {
                places.build_args.insert(name.clone(), value.clone());
                args.insert(name, template);
            }
        }
    }
    let target = fields
        .get("target")
        .and_then(|node| expressions::plain(node, "the target", sink))
        .map(ToOwned::to_owned);
    Some(BuildSource {
        context: context?,
        dockerfile: dockerfile?,
        args,
        target,
    })
}

fn command(fields: &Fields<'_>, places: &mut StagePlaces, sink: &mut Sink<'_>) -> Option<Command> {
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
        return Some(Command::Script(script.to_owned()));
    }
    let node = fields.get("command")?;
    let Value::List(items) = &node.value else {
        sink.error(
            Code::WrongType,
            node.span.clone(),
            "`command` has to be a list: the program and its arguments",
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
            templates.push(template);
            places.command.push(item.clone());
        }
    }
    Some(Command::Exec(templates))
}

fn secrets(fields: &Fields<'_>, env: &Env, sink: &mut Sink<'_>) -> BTreeSet<SecretName> {
    let mut secrets = BTreeSet::new();
    let Some(node) = fields.get("secrets") else {
        return secrets;
    };
    for item in fields::list_or_one(node, "`secrets`", sink) {
        let Some(name) = fields::name::<SecretName>(item, "a secret's name", sink) else {
            continue;
        };
        if is_ours(name.as_str()) || env.contains_key(name.as_str()) {
            let message = format!("`{name}` is a variable of the stage already");
            sink.error(Code::Conflict, item.span.clone(), message)
                .help("choose another name");
        }
        if !secrets.insert(name.clone()) {
            sink.error(
                Code::DuplicateKey,
                item.span.clone(),
                format!("`{name}` stands here twice"),
            );
        }
    }
    secrets
}

fn inputs(
    fields: &Fields<'_>,
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
                        sink.error(Code::Missing, value.span.clone(), "an input needs `from`");
                        continue;
                    }
                }
            }
            Value::Null | Value::Scalar { .. } | Value::List(_) => value,
        };
        if let (Some(name), Some(source)) = (name, input_source(from, sink)) {
            places.inputs.insert(name.clone(), from.span.clone());
            inputs.insert(name, source);
        }
    }
    inputs
}

fn input_source(node: &Node, sink: &mut Sink<'_>) -> Option<InputSource> {
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
    let stage_name =
        fields::checked_name(stage, &fields::part(node, &(0..stage.len()), sink), sink);
    let rest = stage.len() + 1..text.len();
    let output_name = fields::checked_name(output, &fields::part(node, &rest, sink), sink);
    Some(InputSource {
        stage: stage_name?,
        output: output_name?,
    })
}

fn outputs(fields: &Fields<'_>, sink: &mut Sink<'_>) -> BTreeMap<OutputName, RelativePath> {
    let mut outputs = BTreeMap::new();
    let Some(node) = fields.get("outputs") else {
        return outputs;
    };
    for (key, value) in fields::map(node, "`outputs`", sink).unwrap_or_default() {
        let name = fields::checked_name::<OutputName>(&key.text, &key.span, sink);
        let path = path(value, &format!("output `{}`", shortened(&key.text)), sink);
        if let (Some(name), Some(path)) = (name, path) {
            outputs.insert(name, path);
        }
    }
    outputs
}

fn path(node: &Node, what: &str, sink: &mut Sink<'_>) -> Option<RelativePath> {
    let text = expressions::plain(node, what, sink)?;
    match RelativePath::new(text) {
        Ok(path) => Some(path),
        Err(problem) => {
            fields::invalid(
                &node.span,
                format!("{what}: the path `{}` {problem}", shortened(text)),
                sink,
            );
            None
        }
    }
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
                sink.error(Code::Missing, item.span.clone(), "a gate needs a `metric`");
                None
            }
        };
        let mut is_unread = false;
        let mut bound = |key, what| {
            let bound = fields::number(inner.get(key)?, what, sink);
            is_unread |= bound.is_none();
            bound
        };
        let (min, max) = (bound("min", "`min`"), bound("max", "`max`"));
        // What was told of a bound says it all: the rule without it would be told of as well.
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
