//! Stages within a DAG's canonical form.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trainyard_core::expression::{Condition, Template};
use trainyard_core::gate::GateRule;
use trainyard_core::name::{
    InputName, MetricName, OutputName, PoolName, SecretName, StageName, VariableName,
};
use trainyard_core::outcome::Outcome;
use trainyard_core::retry::Retry;
use trainyard_core::stage::{
    BuildSource, Checkout, Command, DeclaredOutput, ImageSource, InputSource, Keep, PullPolicy,
    RelativePath, Resources, RunOn, Stage, StageKind, StageProgram,
};

use super::{float, float_text, nanos};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageDoc {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    needs: Vec<String>,
    run_on: Vec<String>,
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    image: ImageDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<CommandDoc>,
    checkout: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    lfs: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    submodules: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, TextDoc>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, InputDoc>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    outputs: BTreeMap<String, String>,
    /// The outputs that are kept of failed attempts as well.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    keep_always: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gate: Vec<GateDoc>,
    retry: RetryDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ns: Option<u64>,
    resources: ResourcesDoc,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pools: BTreeMap<String, u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// A text that may contain expressions. A literal one keeps its `${{` as it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TextDoc {
    Literal(String),
    Template(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ImageDoc {
    Reference {
        image: TextDoc,
        pull: String,
    },
    Build {
        context: String,
        dockerfile: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        args: BTreeMap<String, TextDoc>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CommandDoc {
    Script(String),
    Exec(Vec<TextDoc>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InputDoc {
    stage: String,
    output: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GateDoc {
    metric: String,
    min: Option<String>,
    max: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RetryDoc {
    attempts: u32,
    on: Vec<String>,
    lost: u32,
    backoff_ns: u64,
    factor: String,
    max_ns: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResourcesDoc {
    cpus: Option<String>,
    memory: Option<u64>,
    shm: Option<u64>,
    pids: Option<u32>,
}

impl From<&Template> for TextDoc {
    fn from(template: &Template) -> Self {
        let text = template.source().to_owned();
        if *template == Template::literal(text.as_str()) {
            Self::Literal(text)
        } else {
            Self::Template(text)
        }
    }
}

impl TryFrom<TextDoc> for Template {
    type Error = String;

    fn try_from(doc: TextDoc) -> Result<Self, String> {
        match doc {
            TextDoc::Literal(text) => Ok(Self::literal(text)),
            TextDoc::Template(text) => Ok(Self::stored(&text)),
        }
    }
}

impl From<&Stage> for StageDoc {
    fn from(stage: &Stage) -> Self {
        let program = stage.program();
        let texts = |texts: &BTreeMap<VariableName, Template>| {
            texts
                .iter()
                .map(|(name, text)| (name.to_string(), text.into()))
                .collect()
        };
        let image = match &program.image {
            ImageSource::Reference { image, pull } => ImageDoc::Reference {
                image: image.into(),
                pull: pull.as_str().to_owned(),
            },
            ImageSource::Build(BuildSource {
                context,
                dockerfile,
                args,
                target,
            }) => ImageDoc::Build {
                context: context.to_string(),
                dockerfile: dockerfile.to_string(),
                args: texts(args),
                target: target.clone(),
            },
        };
        let input = |source: &InputSource| InputDoc {
            stage: source.stage.to_string(),
            output: source.output.to_string(),
        };
        Self {
            name: stage.name.to_string(),
            needs: stage.needs.iter().map(ToString::to_string).collect(),
            run_on: stage
                .run_on
                .iter()
                .map(|on| on.as_str().to_owned())
                .collect(),
            condition: stage
                .condition
                .as_ref()
                .map(|condition| condition.source().to_owned()),
            image,
            command: program.command.as_ref().map(CommandDoc::from),
            checkout: program.checkout.tree,
            lfs: program.checkout.lfs,
            submodules: program.checkout.submodules,
            env: texts(&program.env),
            secrets: program.secrets.iter().map(ToString::to_string).collect(),
            inputs: program
                .inputs
                .iter()
                .map(|(name, from)| (name.to_string(), input(from)))
                .collect(),
            outputs: program
                .outputs
                .iter()
                .map(|(name, output)| (name.to_string(), output.path.to_string()))
                .collect(),
            keep_always: program
                .outputs
                .iter()
                .filter(|(_, output)| output.keep == Keep::Always)
                .map(|(name, _)| name.to_string())
                .collect(),
            metrics: program.metrics.as_ref().map(ToString::to_string),
            gate: program.gate.iter().map(GateDoc::from).collect(),
            retry: RetryDoc::from(&program.retry),
            timeout_ns: program.timeout.map(nanos),
            resources: ResourcesDoc {
                cpus: program.resources.cpus.map(float_text),
                memory: program.resources.memory,
                shm: program.resources.shm,
                pids: program.resources.pids,
            },
            pools: program
                .pools
                .iter()
                .map(|(name, slots)| (name.to_string(), *slots))
                .collect(),
        }
    }
}

impl TryFrom<StageDoc> for Stage {
    type Error = String;

    fn try_from(doc: StageDoc) -> Result<Self, String> {
        let texts =
            |texts: BTreeMap<String, TextDoc>| pairs(texts, VariableName::new, Template::try_from);
        let image = match doc.image {
            ImageDoc::Reference { image, pull } => ImageSource::Reference {
                image: image.try_into()?,
                pull: word(&pull, PullPolicy::ALL, PullPolicy::as_str)?,
            },
            ImageDoc::Build {
                context,
                dockerfile,
                args,
                target,
            } => ImageSource::Build(BuildSource {
                context: path(context)?,
                dockerfile: path(dockerfile)?,
                args: texts(args)?,
                target,
            }),
        };
        let program = StageProgram {
            image,
            command: doc.command.map(Command::try_from).transpose()?,
            checkout: Checkout {
                tree: doc.checkout,
                lfs: doc.lfs,
                submodules: doc.submodules,
            },
            env: texts(doc.env)?,
            secrets: all(doc.secrets, SecretName::new)?,
            inputs: pairs(doc.inputs, InputName::new, InputSource::try_from)?,
            outputs: outputs(doc.outputs, &doc.keep_always)?,
            metrics: doc.metrics.map(path).transpose()?,
            gate: doc
                .gate
                .into_iter()
                .map(GateRule::try_from)
                .collect::<Result<_, _>>()?,
            retry: doc.retry.try_into()?,
            timeout: doc.timeout_ns.map(Duration::from_nanos),
            resources: Resources {
                cpus: doc.resources.cpus.as_deref().map(float).transpose()?,
                memory: doc.resources.memory,
                shm: doc.resources.shm,
                pids: doc.resources.pids,
            },
            pools: pairs(doc.pools, PoolName::new, Ok)?,
        };
        Ok(Self {
            name: named(doc.name, StageName::new)?,
            needs: all(doc.needs, StageName::new)?,
            run_on: doc
                .run_on
                .iter()
                .map(|on| word(on, RunOn::ALL, RunOn::as_str))
                .collect::<Result<_, _>>()?,
            // A condition that is not a valid expression any more ends its stage with
            // that reason; the rest of the DAG works.
            condition: doc.condition.as_deref().map(Condition::stored),
            kind: StageKind::Program(program),
        })
    }
}

fn path(text: String) -> Result<RelativePath, String> {
    RelativePath::new(&text).map_err(|fault| format!("`{text}` {fault}"))
}

fn outputs(
    paths: BTreeMap<String, String>,
    keep_always: &BTreeSet<String>,
) -> Result<BTreeMap<OutputName, DeclaredOutput>, String> {
    let mut outputs = pairs(paths, OutputName::new, |text| {
        path(text).map(DeclaredOutput::from)
    })?;
    for (name, output) in &mut outputs {
        if keep_always.contains(name.as_str()) {
            output.keep = Keep::Always;
        }
    }
    Ok(outputs)
}

impl From<&Command> for CommandDoc {
    fn from(command: &Command) -> Self {
        match command {
            Command::Script(script) => Self::Script(script.clone()),
            Command::Exec(items) => Self::Exec(items.iter().map(TextDoc::from).collect()),
        }
    }
}

impl TryFrom<CommandDoc> for Command {
    type Error = String;

    fn try_from(doc: CommandDoc) -> Result<Self, String> {
        Ok(match doc {
            CommandDoc::Script(script) => Self::Script(script),
            CommandDoc::Exec(items) => Self::Exec(
                items
                    .into_iter()
                    .map(Template::try_from)
                    .collect::<Result<_, _>>()?,
            ),
        })
    }
}

impl TryFrom<InputDoc> for InputSource {
    type Error = String;

    fn try_from(doc: InputDoc) -> Result<Self, String> {
        Ok(Self {
            stage: named(doc.stage, StageName::new)?,
            output: named(doc.output, OutputName::new)?,
        })
    }
}

impl From<&GateRule> for GateDoc {
    fn from(rule: &GateRule) -> Self {
        Self {
            metric: rule.metric.to_string(),
            min: rule.min.map(float_text),
            max: rule.max.map(float_text),
        }
    }
}

impl TryFrom<GateDoc> for GateRule {
    type Error = String;

    fn try_from(doc: GateDoc) -> Result<Self, String> {
        Ok(Self {
            metric: named(doc.metric, MetricName::new)?,
            min: doc.min.as_deref().map(float).transpose()?,
            max: doc.max.as_deref().map(float).transpose()?,
        })
    }
}

impl From<&Retry> for RetryDoc {
    fn from(retry: &Retry) -> Self {
        Self {
            attempts: retry.attempts,
            on: retry
                .on
                .iter()
                .map(|outcome| outcome.as_str().to_owned())
                .collect(),
            lost: retry.lost,
            backoff_ns: nanos(retry.backoff),
            factor: float_text(retry.factor),
            max_ns: nanos(retry.max),
        }
    }
}

impl TryFrom<RetryDoc> for Retry {
    type Error = String;

    fn try_from(doc: RetryDoc) -> Result<Self, String> {
        let outcome = |text: String| {
            Outcome::from_word(&text).ok_or_else(|| format!("`{text}` is not an outcome"))
        };
        Ok(Self {
            attempts: doc.attempts,
            on: doc.on.into_iter().map(outcome).collect::<Result<_, _>>()?,
            lost: doc.lost,
            backoff: Duration::from_nanos(doc.backoff_ns),
            factor: float(&doc.factor)?,
            max: Duration::from_nanos(doc.max_ns),
        })
    }
}

/// Reads one of a closed set of names.
pub(crate) fn word<T: Copy, const N: usize>(
    text: &str,
    choices: [T; N],
    as_str: fn(T) -> &'static str,
) -> Result<T, String> {
    choices
        .into_iter()
        .find(|choice| as_str(*choice) == text)
        .ok_or_else(|| format!("`{text}` is not known"))
}

fn named<T, E: ToString>(text: String, new: fn(String) -> Result<T, E>) -> Result<T, String> {
    new(text).map_err(|fault| fault.to_string())
}

fn all<T, E: ToString, C: FromIterator<T>>(
    texts: Vec<String>,
    new: fn(String) -> Result<T, E>,
) -> Result<C, String> {
    texts.into_iter().map(|text| named(text, new)).collect()
}

fn pairs<K: Ord, E: ToString, D, V>(
    docs: BTreeMap<String, D>,
    new: fn(String) -> Result<K, E>,
    value: impl Fn(D) -> Result<V, String>,
) -> Result<BTreeMap<K, V>, String> {
    docs.into_iter()
        .map(|(name, doc)| Ok((named(name, new)?, value(doc)?)))
        .collect()
}
