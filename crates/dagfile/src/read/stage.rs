//! `stages` and `defaults`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::time::Duration;

use trainyard_core::expression::Template;
use trainyard_core::name::{PoolName, SecretName, StageName};
use trainyard_core::retry::Retry;
use trainyard_core::stage::{
    Checkout, Command, PullPolicy, Resources, RunOn, Stage, StageKind, StageProgram,
};
use trainyard_core::text::shortened;

use super::fields::Fields;
use super::habits::is_of_a_shell;
use super::image::{DefaultImage, Image, some_image};
use super::output::some_path;
use super::places::{ImagePlaces, StagePlaces};
use super::{Env, EnvPlaces, FileReader, TIMEOUTS, is_ours};
use crate::diagnostic::DiagnosticCode as Code;
use crate::document;
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

impl FileReader<'_> {
    /// Reads `defaults`.
    pub(super) fn defaults(&mut self, node: &Node) -> Defaults {
        let mut defaults = Defaults::default();
        let Some(fields) = self.fields(node, "`defaults`", document::Defaults::FORM) else {
            defaults.image = DefaultImage::Wrong;
            return defaults;
        };
        defaults.pull = self.pull(&fields);
        let mut places = ImagePlaces::default();
        defaults.image = match self.image(&fields, "`defaults`", &mut places) {
            Image::None => DefaultImage::None,
            Image::Wrong => DefaultImage::Wrong,
            Image::One(image) => DefaultImage::One(image, places),
        };
        defaults.shell = self.shell(&fields);
        defaults.checkout = self.checkout(&fields);
        if let Some(node) = fields.get("env") {
            (defaults.env, defaults.env_places) = self.env(node);
        }
        defaults.secrets = self.secrets(&fields);
        if let Some(node) = fields.get("retry") {
            defaults.retry = self.retry(node, &defaults.retry);
        }
        defaults.timeout = self.timeout(&fields);
        if let Some(node) = fields.get("resources") {
            defaults.resources = self.resources(node, &defaults.resources);
        }
        defaults
    }

    fn timeout(&mut self, fields: &Fields<'_>) -> Option<Duration> {
        self.duration(fields.get("timeout")?, "the timeout", TIMEOUTS)
    }

    fn checkout(&mut self, fields: &Fields<'_>) -> Option<Checkout> {
        let node = fields.get("checkout")?;
        let Value::Map(_) = &node.value else {
            return match self.boolean(node, "`checkout`")? {
                true => Some(Checkout::TREE),
                false => Some(Checkout::NONE),
            };
        };
        let fields = self.fields(node, "`checkout`", document::Checkout::FORM)?;
        let mut set = |key: &str| match fields.get(key) {
            Some(node) => self.boolean(node, &format!("`{key}`")) == Some(true),
            None => false,
        };
        Some(Checkout {
            tree: true,
            lfs: set("lfs"),
            submodules: set("submodules"),
        })
    }
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

impl FileReader<'_> {
    pub(super) fn stage(
        &mut self,
        name: StageName,
        key: &Key,
        node: &Node,
        common: &Common<'_>,
    ) -> Read {
        let mut places = StagePlaces {
            key: key.span.clone(),
            ..StagePlaces::default()
        };
        let what = format!("stage `{}`", shortened(&key.text));
        let Some(fields) = self.fields(node, &what, document::Stage::FORM) else {
            return Read {
                stage: unreadable(name),
                places,
                has_unread_needs: true,
                has_unread_outputs: true,
                pipe: None,
            };
        };
        let defaults = common.defaults;
        let (needs, has_unread_needs) = self.needs(&fields, common.unread_stages, &mut places);
        let run_on = self.run_on(&fields);
        let condition = fields.get("if").and_then(|node| {
            places.condition = Some(node.clone());
            self.condition(node)
        });
        let image = self.stage_image(&what, key, &fields, defaults, &mut places.image);
        self.check_has_script(&what, &fields);
        let shell = self.shell(&fields).or_else(|| defaults.shell.clone());
        let command = self.command(&fields, shell, &mut places);
        let pipe = match (&command, fields.get("run")) {
            (Some(Command::Script(script)), Some(node)) => self.pipe(&image, node, script),
            _ => None,
        };
        let checkout = self
            .checkout(&fields)
            .or(defaults.checkout)
            .unwrap_or(Checkout::TREE);
        let mut all_env = common.env.clone();
        if let Some(node) = fields.get("env") {
            let (own, own_places) = self.env(node);
            all_env.extend(own);
            places.env = own_places;
        }
        self.check_arguments(&what, key, &all_env, command.as_ref());
        let mut all_secrets = self.secrets(&fields);
        for (name, span) in &defaults.secrets {
            let span = || span.clone();
            all_secrets.entry(name.clone()).or_insert_with(span);
        }
        self.check_secrets(&all_secrets, &all_env);
        let inputs = self.inputs(&fields, common.unread_stages, &mut places);
        let (outputs, has_unread_outputs) = self.outputs(&fields);
        let metrics = match fields.get("metrics") {
            // A wrong path still counts as one: gates and expressions do not lack it.
            Some(node) => self.output_path(node, "`metrics`").or_else(some_path),
            None if fields.is_meant("metrics") => some_path(),
            None => None,
        };
        let gate = self.gate(&fields, &mut places);
        let retry = match fields.get("retry") {
            None => defaults.retry.clone(),
            Some(node) => self.retry(node, &defaults.retry),
        };
        let resources = match fields.get("resources") {
            None => defaults.resources.clone(),
            Some(node) => self.resources(node, &defaults.resources),
        };
        let timeout = self.timeout(&fields).or(defaults.timeout);
        let pools = self.pools(&fields);
        let program = StageProgram {
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
        let stage = Stage {
            name,
            needs,
            run_on,
            condition,
            kind: StageKind::Program(program),
        };
        Read {
            stage,
            places,
            has_unread_needs,
            has_unread_outputs,
            pipe,
        }
    }
}

/// A stage of which only the name is known.
fn unreadable(name: StageName) -> Stage {
    Stage {
        name,
        needs: Vec::new(),
        run_on: RunOn::ALL.into(),
        condition: None,
        kind: StageKind::Program(StageProgram {
            metrics: some_path(),
            ..StageProgram::new(some_image())
        }),
    }
}

impl FileReader<'_> {
    fn run_on(&mut self, fields: &Fields<'_>) -> BTreeSet<RunOn> {
        let choices = RunOn::ALL.map(|on| (on.as_str(), on));
        let Some(node) = fields.get("run_on") else {
            return if fields.is_meant("run_on") {
                RunOn::ALL.into()
            } else {
                BTreeSet::from([RunOn::Success])
            };
        };
        let items = self.list_or_one(node, "`run_on`");
        let found: BTreeSet<RunOn> = items
            .into_iter()
            .filter_map(|node| self.one_of(node, "`run_on`", &choices))
            .collect();
        if found.is_empty() {
            if matches!(&node.value, Value::List(items) if items.is_empty()) {
                self.invalid(
                    &node.span,
                    "a stage that runs on nothing never runs".to_owned(),
                );
            }
            // It could be any of them, so nothing follows from it.
            return RunOn::ALL.into();
        }
        found
    }

    fn command(
        &mut self,
        fields: &Fields<'_>,
        shell: Option<Vec<String>>,
        places: &mut StagePlaces,
    ) -> Option<Command> {
        if let (Some(_), Some(key)) = (fields.get("run"), fields.key("command")) {
            self.sink
                .error(
                    Code::Conflict,
                    key.span.clone(),
                    "a stage has `run` or `command`, not both",
                )
                .help("`run` is a shell script, `command` a program with its arguments");
        }
        if let Some(node) = fields.get("run") {
            let script = self.plain(node, "`run`")?;
            if script.len() > SCRIPT_LONGEST {
                self.invalid(
                    &node.span,
                    format!("a script has at most {SCRIPT_LONGEST} bytes"),
                );
            }
            if script.trim().is_empty() {
                self.invalid(&node.span, "the script is empty".to_owned());
            }
            self.warn_of_jinja_in(script, node);
            return Some(match shell {
                None => {
                    self.warn_of_shebang(script, node);
                    Command::Script(script.to_owned())
                }
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
            self.sink
                .error(
                    Code::WrongType,
                    node.span.clone(),
                    "`command` must be a list: the program and its arguments",
                )
                .help("write it as a list, or use `run` for a shell script");
            return None;
        };
        if items.is_empty() {
            self.invalid(&node.span, "the command is empty".to_owned());
        }
        let mut templates: Vec<Template> = Vec::new();
        for item in self.list(node, "`command`").unwrap_or_default() {
            if let Some(template) = self.template(item, "the command") {
                self.check_argument("an argument of the command", 0, &template, item);
                templates.push(template);
                places.command.push(item.clone());
            }
        }
        if !is_of_a_shell(&templates) {
            for (template, item) in templates.iter().zip(&places.command) {
                self.warn_of_habits("`command`", template, item);
            }
        }
        Some(Command::Exec(templates))
    }

    fn secrets(&mut self, fields: &Fields<'_>) -> BTreeMap<SecretName, Range<usize>> {
        let mut secrets = BTreeMap::new();
        let Some(node) = fields.get("secrets") else {
            return secrets;
        };
        for item in self.list_or_one(node, "`secrets`") {
            let Some(name) = self.name::<SecretName>(item, "a secret's name") else {
                continue;
            };
            if secrets.insert(name.clone(), item.span.clone()).is_some() {
                self.sink.error(
                    Code::DuplicateKey,
                    item.span.clone(),
                    format!("`{name}` stands here twice"),
                );
            }
        }
        secrets
    }

    fn check_secrets(&mut self, secrets: &BTreeMap<SecretName, Range<usize>>, env: &Env) {
        for (name, span) in secrets {
            if is_ours(name.as_str()) || env.contains_key(name.as_str()) {
                let message = format!("`{name}` is a variable of the stage already");
                self.sink
                    .error(Code::Conflict, span.clone(), message)
                    .help("choose another name");
            }
        }
    }

    fn pools(&mut self, fields: &Fields<'_>) -> BTreeMap<PoolName, u32> {
        let mut pools = BTreeMap::new();
        let Some(node) = fields.get("pools") else {
            return pools;
        };
        let mut take = |name: &str, span: &Range<usize>, slots: u32, reader: &mut Self| {
            if let Some(name) = reader.checked_name(name, span) {
                reader.sink.outside.add_pool(&name, slots, span.clone());
                pools.insert(name, slots);
            }
        };
        match &node.value {
            Value::Map(_) => {
                for (key, value) in self.map(node, "`pools`").unwrap_or_default() {
                    let slots = self.integer(value, "a pool's slots", 1..=10_000);
                    if let Some(slots) = slots.and_then(|slots| u32::try_from(slots).ok()) {
                        take(&key.text, &key.span, slots, self);
                    }
                }
            }
            _ => {
                for item in self.list_or_one(node, "`pools`") {
                    if let Some(name) = self.text(item, "a pool's name") {
                        take(name, &item.span, 1, self);
                    }
                }
            }
        }
        pools
    }
}
