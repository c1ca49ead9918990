//! Reads a Dockerfile before the build begins, and finds all that it makes Docker do.
//!
//! Docker builds with the rights of its host: it fetches the addresses in `ADD`, and looks up the images of `FROM`
//! and `--from` by the beginnings of their ids as well. So all of these are found here, and anything ambiguous is
//! refused instead of being passed on. The reading follows the builder that is going to build; where its versions
//! differ in what is an instruction, the file is refused.

mod builder;
mod instruction;
mod mount;
mod word;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use trainyard_core::image::{ImageReference, is_proxy_argument};

pub(crate) use self::builder::{BuildKit, Builder};
pub(super) use self::instruction::without_frontend;

use self::instruction::{
    IndentedComments, Instruction, flags, has_here_document, instructions, is_blank, is_instruction,
};
use self::word::{expand, quoted_words, variables};

/// The largest Dockerfile that is read, in bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// The most images that one Dockerfile may name.
const IMAGES_AT_MOST: usize = 64;

/// The most bytes that its variables may grow to, all together: each may hold others several times.
const EXPANDED_AT_MOST: usize = 1 << 20;

/// The size that a variable of a base image is counted as, in bytes.
const INHERITED: usize = 4096;

/// The prefixes of addresses that `ADD` fetches.
const REMOTE: [&str; 6] = [
    "http://",
    "https://",
    "git://",
    "ssh://",
    "git@",
    "github.com/",
];

/// A fault of a Dockerfile, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DockerfileFault {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
    /// Whether BuildKit may build what the classic builder cannot.
    pub(super) needs_buildkit: bool,
}

impl fmt::Display for DockerfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// The images that a build takes from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    /// Those that stages start from; the triggers that they run in such builds count as part of the Dockerfile.
    pub(super) bases: Vec<Base>,
    /// Those that files are copied from.
    pub(super) copied_from: Vec<ImageReference>,
    /// Those that triggers for later builds name.
    pub(super) mentioned: Vec<ImageReference>,
}

impl Images {
    fn merge(&mut self, other: Self) {
        fn add<T: PartialEq>(to: &mut Vec<T>, more: Vec<T>) {
            for one in more {
                if !to.contains(&one) {
                    to.push(one);
                }
            }
        }
        add(&mut self.bases, other.bases);
        add(&mut self.copied_from, other.copied_from);
        add(&mut self.mentioned, other.mentioned);
    }
}

/// An image that a stage of a build starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(super) image: ImageReference,
    /// The names of the stages before it.
    stages: Vec<Option<String>>,
    /// The names of all stages.
    names: BTreeSet<String>,
}

/// Reads a Dockerfile as a builder does, with the values of build arguments and the stage to build.
pub(crate) fn read(
    text: &[u8],
    args: &BTreeMap<String, String>,
    target: Option<&str>,
    builder: &Builder,
) -> Result<Images, DockerfileFault> {
    if let Some(message) = args.keys().find_map(|name| unfit(name, builder)) {
        return Err(DockerfileFault {
            line: 1,
            column: 1,
            message,
            needs_buildkit: false,
        });
    }
    let (found, ambiguous) = instructions(text, IndentedComments::Comments, builder)?;
    let mut images = Reading::new(args, builder).all(&found, target)?;
    if let Some(fault) = ambiguous {
        // The other reading of the file has to be permitted as well.
        let other = instructions(text, IndentedComments::Text, builder)
            .and_then(|(found, _)| Reading::new(args, builder).all(&found, target))
            .map_err(|_| fault)?;
        images.merge(other);
    }
    Ok(images)
}

/// Why a build argument cannot be set.
fn unfit(arg: &str, builder: &Builder) -> Option<String> {
    if is_proxy_argument(arg) {
        return Some(format!(
            "the build argument {arg} cannot be set, as Docker passes files that one build fetched through its proxy \
             on to others; set it in the Dockerfile, with ENV {arg}=..."
        ));
    }
    // They choose the program that reads the Dockerfile, and whose caches are used.
    let is_own = matches!(builder, Builder::BuildKit(_))
        && arg.to_ascii_uppercase().starts_with("BUILDKIT_");
    is_own.then(|| format!("the build argument {arg} is one of BuildKit's own, and cannot be set"))
}

/// Reads the triggers that a base image runs in builds that start from it, one instruction in each; returns the
/// images that they copy from.
pub(super) fn read_triggers(
    triggers: &[String],
    base: &Base,
    builder: &Builder,
) -> Result<Vec<ImageReference>, DockerfileFault> {
    let none = BTreeMap::new();
    let mut copied_from = Vec::new();
    for trigger in triggers {
        let (found, ambiguous) =
            instructions(trigger.as_bytes(), IndentedComments::Comments, builder)?;
        if let Some(fault) = ambiguous {
            return Err(fault);
        }
        for instruction in &found {
            if matches!(instruction.word.as_str(), "from" | "onbuild" | "maintainer") {
                return instruction.fault("a trigger cannot be this instruction");
            }
        }
        let reading = Reading {
            stages: base.stages.clone(),
            names: base.names.clone(),
            current: Some(None),
            ..Reading::new(&none, builder)
        };
        copied_from.append(&mut reading.all(&found, None)?.copied_from);
    }
    Ok(copied_from)
}

struct Reading<'a> {
    args: &'a BTreeMap<String, String>,
    builder: &'a Builder,
    /// Arguments before the first `FROM`.
    meta: BTreeMap<String, String>,
    /// Those whose values differ between versions of BuildKit.
    undecided: BTreeSet<String>,
    /// How large variables can be.
    sizes: BTreeMap<String, usize>,
    expanded: usize,
    /// The stages that are complete, with their names.
    stages: Vec<Option<String>>,
    /// The names of all stages, of later ones too.
    names: BTreeSet<String>,
    /// The stage that is being read.
    current: Option<Option<String>>,
    images: Images,
}

impl<'a> Reading<'a> {
    fn new(args: &'a BTreeMap<String, String>, builder: &'a Builder) -> Self {
        let mut meta = builder.automatic();
        let given = |name: &&str| args.contains_key(*name);
        let undecided: BTreeSet<String> = match builder {
            Builder::Classic => BTreeSet::new(),
            Builder::BuildKit(_) => {
                let odd = builder::AUTOMATIC.iter().copied();
                odd.filter(|name| !meta.contains_key(*name) || given(name))
                    .map(str::to_owned)
                    .collect()
            }
        };
        meta.retain(|name, _| !undecided.contains(name));
        Self {
            args,
            builder,
            meta,
            undecided,
            names: BTreeSet::new(),
            sizes: BTreeMap::new(),
            expanded: 0,
            stages: Vec::new(),
            current: None,
            images: Images::default(),
        }
    }

    fn all(
        mut self,
        instructions: &[Instruction],
        target: Option<&str>,
    ) -> Result<Images, DockerfileFault> {
        self.names
            .extend(instructions.iter().filter_map(stage_name));
        for instruction in up_to(instructions, target) {
            self.instruction(instruction)?;
        }
        Ok(self.images)
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        let word = instruction.word.as_str();
        if self.current.is_none() && !matches!(word, "from" | "arg") {
            return instruction.fault("expected FROM before any other instruction than ARG");
        }
        self.count(instruction)?;
        match word {
            "from" => self.from(instruction),
            "arg" if self.current.is_none() => self.meta_arg(instruction),
            "arg" => self.stage_arg(instruction),
            "onbuild" => self.onbuild(instruction),
            "add" | "copy" | "run" => {
                let images = self.files(instruction)?;
                self.images.copied_from.extend(images);
                self.few(instruction)
            }
            _ => Ok(()),
        }
    }

    fn few(&self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        let images = &self.images;
        if images.bases.len() + images.copied_from.len() + images.mentioned.len() > IMAGES_AT_MOST {
            return instruction.fault(format!("a Dockerfile may name {IMAGES_AT_MOST} images"));
        }
        Ok(())
    }

    fn from(&mut self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        if let Some(name) = self.current.take() {
            self.stages.push(name);
        }
        let (flags, rest) = flags(instruction)?;
        for flag in flags {
            self.automatic(instruction, flag)?;
        }
        let words = rest.split(is_blank).filter(|word| !word.is_empty());
        let words: Vec<&str> = words.collect();
        let (image, name) = match words.as_slice() {
            [image] => (*image, None),
            [image, r#as, name] if r#as.eq_ignore_ascii_case("as") => (*image, Some(*name)),
            _ => return instruction.fault("expected FROM IMAGE or FROM IMAGE AS NAME"),
        };
        if name.is_some_and(|name| !name.is_ascii()) {
            return instruction.fault("expected a name of a-z, 0-9, `-`, `_` and `.` after AS");
        }
        let name = name.map(str::to_ascii_lowercase);
        self.automatic(instruction, image)?;
        self.decided(instruction, image)?;
        let image = match expand(image, &self.meta) {
            Ok(image) => image,
            Err(message) => return instruction.fault(format!("the image of FROM: {message}")),
        };
        self.current = Some(name);
        if image == "scratch" || self.is_stage(&image) {
            return Ok(());
        }
        let image = reference(instruction, &image)?;
        self.images.bases.push(Base {
            image,
            stages: self.stages.clone(),
            names: self.names.clone(),
        });
        self.few(instruction)
    }

    /// Checks that the builder sets the platform variables that a text uses and the Dockerfile does not set.
    fn automatic(&self, instruction: &Instruction, text: &str) -> Result<(), DockerfileFault> {
        let unset =
            |name: &&str| builder::AUTOMATIC.contains(name) && !self.meta.contains_key(*name);
        match variables(text).find(unset) {
            Some(name) => {
                self.beyond_classic(instruction, &format!("the variable {name}"), (20, 10))
            }
            None => Ok(()),
        }
    }

    fn decided(&self, instruction: &Instruction, text: &str) -> Result<(), DockerfileFault> {
        match variables(text).find(|name| self.undecided.contains(*name)) {
            Some(name) => instruction.fault(format!(
                "versions of BuildKit give {name} different values here: do not set it, or use another name"
            )),
            None => Ok(()),
        }
    }

    /// Refuses an instruction that the classic builder does not know, and BuildKit only since a version of Docker.
    fn beyond_classic(
        &self,
        instruction: &Instruction,
        what: &str,
        since: (u32, u32),
    ) -> Result<(), DockerfileFault> {
        self.builder
            .knows(what, since)
            .map_err(|lack| lack.at(instruction.line, instruction.column))
    }

    fn is_stage(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.stages.iter().flatten().any(|stage| {
            *stage == name && stage.starts_with(|first: char| first.is_ascii_lowercase())
        })
    }

    fn meta_arg(&mut self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        for word in quoted_words(&instruction.rest) {
            self.decided(instruction, word)?;
            let (name, default) = match word.split_once('=') {
                None => (word, None),
                Some((name, default)) => (name, Some(default)),
            };
            if matches!(self.builder, Builder::BuildKit(_)) && builder::AUTOMATIC.contains(&name) {
                self.meta.remove(name);
                self.undecided.insert(name.to_owned());
                continue;
            }
            let value = match (self.args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, None) => None,
                (None, Some(default)) => match expand(default, &self.meta) {
                    Ok(value) => Some(value),
                    Err(message) => {
                        return instruction.fault(format!("the value of ARG {name}: {message}"));
                    }
                },
            };
            match value {
                Some(value) => drop(self.meta.insert(name.to_owned(), value)),
                None => drop(self.meta.remove(name)),
            }
        }
        Ok(())
    }

    fn stage_arg(&self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        let unset =
            |word: &&str| builder::AUTOMATIC.contains(word) && !self.args.contains_key(*word);
        match quoted_words(&instruction.rest).into_iter().find(unset) {
            Some(name) => self.beyond_classic(instruction, &format!("ARG {name}"), (20, 10)),
            None => Ok(()),
        }
    }

    fn onbuild(&mut self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        let rest = instruction.rest.as_str();
        let (word, rest) = rest.split_once(is_blank).unwrap_or((rest, ""));
        let trigger = Instruction {
            word: word.to_ascii_lowercase(),
            rest: rest.trim().to_owned(),
            ..instruction.clone()
        };
        match trigger.word.as_str() {
            "onbuild" | "from" | "maintainer" => {
                instruction.fault("a trigger of ONBUILD cannot be this instruction")
            }
            "add" | "copy" | "run" => {
                if has_here_document(&trigger.rest) {
                    return instruction.fault("here-documents are not supported in ONBUILD");
                }
                let images = self.files(&trigger)?;
                self.images.mentioned.extend(images);
                self.few(instruction)
            }
            word if is_instruction(word) => Ok(()),
            _ => instruction.fault("expected an instruction after ONBUILD"),
        }
    }

    /// The images that an instruction brings files from, apart from the stages of the build itself.
    fn files(&self, instruction: &Instruction) -> Result<Vec<ImageReference>, DockerfileFault> {
        let (flags, rest) = flags(instruction)?;
        let mut found = Vec::new();
        for flag in flags {
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            match (instruction.word.as_str(), name) {
                ("run", "--mount") => {
                    self.beyond_classic(instruction, "RUN --mount", (20, 10))?;
                    for from in mount::sources(instruction, value)? {
                        found.extend(self.copied_from(instruction, from)?);
                    }
                }
                ("run", "--network") if matches!(value, "default" | "none") => {
                    self.beyond_classic(instruction, "RUN --network", (23, 0))?;
                }
                ("copy", "--from") => found.extend(self.copied_from(instruction, value)?),
                ("add" | "copy", "--chown") => {}
                ("add" | "copy", "--link") => self.beyond_classic(instruction, name, (23, 0))?,
                ("add" | "copy", "--chmod" | "--exclude")
                | ("add", "--unpack")
                | ("copy", "--parents") => {
                    self.beyond_classic(instruction, name, (20, 10))?;
                }
                (word, _) => {
                    let word = word.to_ascii_uppercase();
                    let shown: String = flag.chars().take(80).collect();
                    return instruction.fault(format!("{word} {shown} is not supported"));
                }
            }
        }
        if instruction.word == "add" {
            sources(instruction, rest, self.builder)?;
        }
        Ok(found)
    }

    fn copied_from(
        &self,
        instruction: &Instruction,
        from: &str,
    ) -> Result<Option<ImageReference>, DockerfileFault> {
        if from.contains('$') {
            return instruction.fault("`--from` cannot hold a variable; name a stage or an image");
        }
        if !from.is_empty() && from.bytes().all(|byte| byte.is_ascii_digit()) {
            return match from.parse::<usize>() {
                Ok(index) if index < self.stages.len() => Ok(None),
                _ => {
                    instruction.fault(format!("`--from={from}`: there is no earlier stage {from}"))
                }
            };
        }
        if self.is_stage(from) {
            return Ok(None);
        }
        // For BuildKit it is that stage, and for the classic builder an image.
        let is_later = self.names.contains(&from.to_ascii_lowercase());
        if is_later && matches!(self.builder, Builder::BuildKit(_)) {
            return instruction.fault(format!(
                "stage `{from}` does not come before this instruction"
            ));
        }
        reference(instruction, from).map(Some)
    }

    /// Bounds the size of variables: nothing else bounds Docker's own memory for them.
    fn count(&mut self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        let word = instruction.word.as_str();
        if matches!(
            word,
            "run" | "cmd" | "entrypoint" | "shell" | "healthcheck" | "onbuild" | "maintainer"
        ) {
            return Ok(());
        }
        let rest = instruction.rest.as_str();
        let mut size = rest.len() + instruction.documents.len();
        for name in variables(rest).chain(variables(&instruction.documents)) {
            size = size.saturating_add(self.sizes.get(name).copied().unwrap_or(INHERITED));
        }
        self.expanded = self.expanded.saturating_add(size);
        if self.expanded > EXPANDED_AT_MOST {
            return instruction.fault("the variables of the Dockerfile grow beyond 1 MiB");
        }
        if matches!(word, "env" | "arg") {
            let names = rest
                .split_whitespace()
                .enumerate()
                .filter_map(|(place, word)| match word.split_once('=') {
                    Some((name, _)) => Some(name),
                    None => (place == 0).then_some(word),
                });
            for name in names {
                let given = self.args.get(name).map_or(0, String::len);
                self.sizes.insert(name.to_owned(), size.max(given));
            }
        }
        Ok(())
    }
}

/// The name of the stage that an instruction begins, in lower case.
fn stage_name(instruction: &Instruction) -> Option<String> {
    if instruction.word != "from" {
        return None;
    }
    let mut words = instruction
        .rest
        .rsplit(is_blank)
        .filter(|word| !word.is_empty());
    let name = words.next()?;
    let is_named = words.next()?.eq_ignore_ascii_case("as");
    is_named.then(|| name.to_ascii_lowercase())
}

/// The instructions up to the end of the stage to build: what comes after it is not built.
fn up_to<'i>(instructions: &'i [Instruction], target: Option<&str>) -> &'i [Instruction] {
    let target = target.map(str::to_ascii_lowercase);
    // The last one of the name, though builders differ in which one they take.
    let is_target = |instruction| target.is_some() && stage_name(instruction) == target;
    let Some(begin) = instructions.iter().rposition(is_target) else {
        return instructions;
    };
    let rest = &instructions[begin + 1..];
    let length = rest
        .iter()
        .position(|instruction| instruction.word == "from");
    &instructions[..begin + 1 + length.unwrap_or(rest.len())]
}

fn reference(instruction: &Instruction, text: &str) -> Result<ImageReference, DockerfileFault> {
    ImageReference::requested(text).or_else(|fault| instruction.fault(fault.to_string()))
}

/// Checks that `ADD` takes files of the source tree only.
fn sources(
    instruction: &Instruction,
    rest: &str,
    builder: &Builder,
) -> Result<(), DockerfileFault> {
    let words: Vec<String> = if rest.starts_with('[') {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Vec<String>>();
        match values.next() {
            Some(Ok(words)) if rest[values.byte_offset()..].trim().is_empty() => words,
            _ => return instruction.fault("expected a list of texts in JSON after `[`"),
        }
    } else {
        rest.split(is_blank)
            .filter(|word| !word.is_empty())
            .map(ToOwned::to_owned)
            .collect()
    };
    let sources = match words.split_last() {
        Some((_, sources)) if !sources.is_empty() => sources,
        _ => return instruction.fault("expected ADD SOURCE… TARGET"),
    };
    for source in sources {
        let undecided = |instead: &str| {
            let shown: String = source.chars().take(80).collect();
            instruction.fault(format!(
                "ADD `{}`: this may be an address, which Docker would fetch. {instead}",
                shown.escape_debug()
            ))
        };
        if source.contains('\\') {
            return undecided("Write it without the backslash, or use COPY");
        }
        let plain = source.replace(['"', '\''], "").trim().to_ascii_lowercase();
        // As `user@host:path`, too.
        let is_of_ssh = plain
            .split_once('@')
            .is_some_and(|(_, after)| after.contains(':'));
        if is_of_ssh
            || plain.contains("://")
            || REMOTE.iter().any(|remote| plain.starts_with(remote))
        {
            return instruction.fault(
                "ADD of an address is refused: Docker would fetch it with the rights of its host. Fetch it with \
                 RUN (curl, wget, git), or commit the file and use COPY",
            );
        }
        if let Some((before, _)) = plain.split_once('$')
            && (REMOTE.iter().any(|remote| remote.starts_with(before))
                || (matches!(builder, Builder::BuildKit(_)) && !before.contains('/')))
        {
            return undecided(
                "Write `./` before it, or use COPY: both take files of the source tree only",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
