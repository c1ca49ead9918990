//! What a Dockerfile makes Docker do for it, read before the build begins.
//!
//! Docker builds with the rights of its host: it fetches what `ADD` names by an address, and looks for the
//! images of `FROM` and `--from` by the beginnings of their ids as well. So all of these are found here,
//! and what cannot be told for certain is refused instead of being passed on. The reading follows Docker's
//! classic builder; where versions of that differ in what is an instruction, the file is refused.

mod instruction;
mod word;

use std::collections::BTreeMap;
use std::fmt;

use trainyard_core::image::ImageReference;

use self::instruction::{
    IndentedComments, Instruction, flags, has_here_document, instructions, is_blank, is_instruction,
};
use self::word::{expand, quoted_words};

/// The largest Dockerfile that is read, in bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// The most images that one Dockerfile may name.
const IMAGES_AT_MOST: usize = 64;

/// The most that its variables may grow to, all together, in bytes: each may hold others several times.
const EXPANDED_AT_MOST: usize = 1 << 20;

/// What a variable of a base image is counted as, in bytes.
const INHERITED: usize = 4096;

/// How an address that `ADD` fetches begins.
const REMOTE: [&str; 6] = [
    "http://",
    "https://",
    "git://",
    "ssh://",
    "git@",
    "github.com/",
];

/// What is wrong with a Dockerfile, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DockerfileFault {
    /// From 1.
    pub(super) line: usize,
    /// From 1.
    pub(super) column: usize,
    pub(super) message: String,
}

impl fmt::Display for DockerfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// The images that a build takes from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Images {
    /// Those that stages start from; what they run in such builds counts as part of the Dockerfile.
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
}

/// Reads a Dockerfile, with the values of build arguments.
pub(crate) fn read(
    text: &[u8],
    args: &BTreeMap<String, String>,
) -> Result<Images, DockerfileFault> {
    let (found, ambiguous) = instructions(text, IndentedComments::Comments)?;
    let mut images = Reading::new(args).all(&found)?;
    if let Some(fault) = ambiguous {
        // Whatever the other reading makes Docker do has to be right as well.
        let other = instructions(text, IndentedComments::Text)
            .and_then(|(found, _)| Reading::new(args).all(&found))
            .map_err(|_| fault)?;
        images.merge(other);
    }
    Ok(images)
}

/// Reads what a base image runs in builds that start from it, one instruction in each; the images that it
/// copies from.
pub(super) fn read_triggers(
    triggers: &[String],
    base: &Base,
) -> Result<Vec<ImageReference>, DockerfileFault> {
    let none = BTreeMap::new();
    let mut copied_from = Vec::new();
    for trigger in triggers {
        let (found, ambiguous) = instructions(trigger.as_bytes(), IndentedComments::Comments)?;
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
            current: Some(None),
            ..Reading::new(&none)
        };
        copied_from.append(&mut reading.all(&found)?.copied_from);
    }
    Ok(copied_from)
}

struct Reading<'a> {
    args: &'a BTreeMap<String, String>,
    /// Arguments before the first `FROM`.
    meta: BTreeMap<String, String>,
    /// How large variables can be.
    sizes: BTreeMap<String, usize>,
    expanded: usize,
    /// The stages that are complete, with their names.
    stages: Vec<Option<String>>,
    /// The stage that is being read.
    current: Option<Option<String>>,
    images: Images,
}

impl<'a> Reading<'a> {
    fn new(args: &'a BTreeMap<String, String>) -> Self {
        Self {
            args,
            meta: BTreeMap::new(),
            sizes: BTreeMap::new(),
            expanded: 0,
            stages: Vec::new(),
            current: None,
            images: Images::default(),
        }
    }

    fn all(mut self, instructions: &[Instruction]) -> Result<Images, DockerfileFault> {
        for instruction in instructions {
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
        let (_, rest) = flags(instruction)?;
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
        });
        self.few(instruction)
    }

    fn is_stage(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.stages.iter().flatten().any(|stage| {
            *stage == name && stage.starts_with(|first: char| first.is_ascii_lowercase())
        })
    }

    fn meta_arg(&mut self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        for word in quoted_words(&instruction.rest) {
            let (name, default) = match word.split_once('=') {
                None => (word, None),
                Some((name, default)) => (name, Some(default)),
            };
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
                let images = self.files(&trigger)?;
                self.images.mentioned.extend(images);
                self.few(instruction)
            }
            word if is_instruction(word) => Ok(()),
            _ => instruction.fault("expected an instruction after ONBUILD"),
        }
    }

    /// What brings files into the image: the image that they come from, if it is none of the build's own.
    fn files(&self, instruction: &Instruction) -> Result<Option<ImageReference>, DockerfileFault> {
        let (flags, rest) = flags(instruction)?;
        if has_here_document(&instruction.rest) {
            return instruction.fault(
                "here-documents are not supported by Docker's classic builder: commit the text as a file and \
                 COPY it, or write it with printf; put `<<` that begins none in quotes, before any backslash \
                 and `${`",
            );
        }
        match instruction.word.as_str() {
            "run" if !flags.is_empty() => instruction.fault(
                "options of RUN need BuildKit, and builds are made by Docker's classic builder",
            ),
            "run" => Ok(None),
            "add" => sources(instruction, rest).map(|()| None),
            _ => {
                let mut found = None;
                for flag in flags {
                    if let Some(from) = flag.strip_prefix("--from") {
                        found = self
                            .copied_from(instruction, from.strip_prefix('=').unwrap_or_default())?;
                    }
                }
                Ok(found)
            }
        }
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
        reference(instruction, from).map(Some)
    }

    /// Bounds what variables grow to: Docker's own memory has no other bound for it.
    fn count(&mut self, instruction: &Instruction) -> Result<(), DockerfileFault> {
        let word = instruction.word.as_str();
        if matches!(
            word,
            "run" | "cmd" | "entrypoint" | "shell" | "healthcheck" | "onbuild" | "maintainer"
        ) {
            return Ok(());
        }
        let rest = instruction.rest.as_str();
        let mut size = rest.len();
        for part in rest.split('$').skip(1) {
            let part = part.strip_prefix('{').unwrap_or(part);
            let end = part
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(part.len());
            let name = &part[..end];
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

fn reference(instruction: &Instruction, text: &str) -> Result<ImageReference, DockerfileFault> {
    ImageReference::requested(text).or_else(|fault| instruction.fault(fault.to_string()))
}

/// Checks that `ADD` takes files of the source tree only.
fn sources(instruction: &Instruction, rest: &str) -> Result<(), DockerfileFault> {
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
                "ADD `{}`: it cannot be told whether this is an address, which Docker would fetch. {instead}",
                shown.escape_debug()
            ))
        };
        if source.contains('\\') {
            return undecided("Write it without the backslash, or use COPY");
        }
        let plain = source.replace(['"', '\''], "").trim().to_ascii_lowercase();
        if plain.contains("://") || REMOTE.iter().any(|remote| plain.starts_with(remote)) {
            return instruction.fault(
                "ADD of an address is refused: Docker would fetch it with the rights of its host. Fetch it with \
                 RUN (curl, wget, git), or commit the file and use COPY",
            );
        }
        if let Some((before, _)) = plain.split_once('$')
            && REMOTE.iter().any(|remote| remote.starts_with(before))
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
