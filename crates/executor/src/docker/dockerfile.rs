//! What a Dockerfile makes Docker do for it, read before the build begins.
//!
//! Docker builds with the rights of its host: it fetches what `ADD` names by an address, and looks for the
//! images of `FROM` and `--from` by the beginnings of their ids as well. So all of these are found here,
//! and what cannot be told for certain is refused instead of being passed on. The reading follows Docker's
//! classic builder; where versions of that differ in what is an instruction, the file is refused.

use std::collections::BTreeMap;
use std::fmt;

use trainyard_core::image::ImageReference;

/// The largest Dockerfile that is read, in bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// The most images that one Dockerfile may name.
const IMAGES_AT_MOST: usize = 64;

/// The most that its variables may grow to, all together, in bytes: each may hold others several times.
const EXPANDED_AT_MOST: usize = 1 << 20;

/// What a variable of a base image is counted as, in bytes.
const INHERITED: usize = 4096;

/// The instructions that there are.
const INSTRUCTIONS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

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
    let instructions = instructions(text)?;
    let mut reading = Reading {
        args,
        meta: BTreeMap::new(),
        sizes: BTreeMap::new(),
        expanded: 0,
        stages: Vec::new(),
        current: None,
        images: Images::default(),
    };
    for instruction in &instructions {
        reading.instruction(instruction)?;
    }
    Ok(reading.images)
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
        let instructions = instructions(trigger.as_bytes())?;
        let mut reading = Reading {
            args: &none,
            meta: BTreeMap::new(),
            sizes: BTreeMap::new(),
            expanded: 0,
            stages: base.stages.clone(),
            current: Some(None),
            images: Images::default(),
        };
        for instruction in &instructions {
            if matches!(instruction.word.as_str(), "from" | "onbuild" | "maintainer") {
                return instruction.fault("a trigger cannot be this instruction");
            }
            reading.instruction(instruction)?;
        }
        copied_from.append(&mut reading.images.copied_from);
    }
    Ok(copied_from)
}

/// One instruction, its lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Instruction {
    /// The line that it begins in, from 1.
    line: usize,
    /// The column that it begins in, from 1.
    column: usize,
    /// Its word, in lower case.
    word: String,
    /// What follows the word.
    rest: String,
}

impl Instruction {
    fn fault<T>(&self, message: impl Into<String>) -> Result<T, DockerfileFault> {
        Err(DockerfileFault {
            line: self.line,
            column: self.column,
            message: message.into(),
        })
    }
}

/// The words of a text: blanks within quotes, and behind a backslash, do not end one.
fn quoted_words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut begun = None;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if is_blank(c) && quote.is_none() && !escaped {
            words.extend(begun.take().map(|from| &text[from..at]));
            continue;
        }
        begun.get_or_insert(at);
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
    }
    words.extend(begun.map(|from| &text[from..]));
    words
}

/// What separates words within an instruction.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

fn instructions(text: &[u8]) -> Result<Vec<Instruction>, DockerfileFault> {
    let at = |line: usize, column: usize, message: &str| DockerfileFault {
        line,
        column,
        message: message.to_owned(),
    };
    if text.len() > LARGEST {
        return Err(at(1, 1, "the file is larger than 1 MiB"));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let before = &text[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        at(line, 1, "the file is not UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut lines = text.split('\n').enumerate();
    let mut in_head = true;
    while let Some((index, raw)) = lines.next() {
        let number = index + 1;
        let raw = raw.strip_suffix('\r').unwrap_or(raw);
        let line = raw.trim_start();
        let column = raw.chars().count() - line.chars().count() + 1;
        if line.contains('\0') {
            return Err(at(number, column, "the line has a NUL"));
        }
        if let Some(comment) = line.strip_prefix('#') {
            if in_head {
                directive(comment).map_err(|message| at(number, column, &message))?;
            }
            continue;
        }
        in_head = false;
        let (mut joined, mut goes_on) = continued(line).map_err(|text| at(number, column, text))?;
        let mut after_indented_comment = false;
        while goes_on {
            let Some((index, raw)) = lines.next() else {
                break;
            };
            let number = index + 1;
            let raw = raw.strip_suffix('\r').unwrap_or(raw);
            if raw.contains('\0') {
                return Err(at(number, 1, "the line has a NUL"));
            }
            if raw.starts_with('#') {
                continue;
            }
            if raw.trim_start().starts_with('#') {
                after_indented_comment = true;
                continue;
            }
            if raw.trim().is_empty() {
                continue;
            }
            let first = raw.split_whitespace().next().unwrap_or_default();
            if after_indented_comment && is_instruction(first) {
                let message = "this line begins like an instruction, and follows an indented comment within \
                               another: versions of Docker read that in different ways. Remove the comment, \
                               or its indentation";
                return Err(at(number, 1, message));
            }
            after_indented_comment = false;
            let (more, more_to_come) = continued(raw).map_err(|text| at(number, 1, text))?;
            joined.push_str(&more);
            goes_on = more_to_come;
        }
        let joined = joined.trim();
        if joined.is_empty() {
            continue;
        }
        let (word, rest) = joined.split_once(is_blank).unwrap_or((joined, ""));
        let instruction = Instruction {
            line: number,
            column,
            word: word.to_ascii_lowercase(),
            rest: rest.trim().to_owned(),
        };
        if !is_instruction(word) {
            let shown: String = word.chars().take(40).collect();
            let shown = shown.escape_debug();
            return instruction.fault(format!("unknown instruction `{shown}`"));
        }
        found.push(instruction);
    }
    Ok(found)
}

fn is_instruction(word: &str) -> bool {
    INSTRUCTIONS.contains(&word.to_ascii_lowercase().as_str())
}

/// A line without the mark that the next one belongs to it, and whether it had one.
fn continued(line: &str) -> Result<(String, bool), &'static str> {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix('\\') {
        None => Ok((line.to_owned(), false)),
        Some(before) if before.ends_with('\\') => Err(
            "the line ends with two backslashes: versions of Docker read that in different ways. Put something \
             behind them",
        ),
        Some(before) => Ok((before.to_owned(), true)),
    }
}

/// The comments at the top of a file may direct how it is read.
fn directive(comment: &str) -> Result<(), String> {
    let Some((name, value)) = comment.split_once('=') else {
        return Ok(());
    };
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    match name.as_str() {
        "escape" if value != "\\" => {
            Err("the escape character cannot be changed: only the backslash is supported".to_owned())
        }
        // Docker's own, which its classic builder does not need and does not fetch.
        "syntax" if value == "docker/dockerfile" || value.starts_with("docker/dockerfile:") => Ok(()),
        "syntax" => Err(
            "other frontends than docker/dockerfile are not supported: remove the line `# syntax=…`".to_owned(),
        ),
        _ => Ok(()),
    }
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

impl Reading<'_> {
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
        if instruction.rest.split_whitespace().any(is_here_document) {
            return instruction
                .fault("here-documents are not supported by Docker's classic builder");
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

/// The options before the arguments of an instruction, and the arguments.
fn flags(instruction: &Instruction) -> Result<(Vec<&str>, &str), DockerfileFault> {
    let mut flags = Vec::new();
    let mut rest = instruction.rest.as_str();
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(is_blank).unwrap_or((rest, ""));
        rest = after.trim_start_matches(is_blank);
        if flag == "--" {
            break;
        }
        if flag.contains(['"', '\'', '\\']) {
            return instruction.fault("quotes and backslashes in options are not supported");
        }
        // Docker looks for the end of an option byte by byte: the second byte of `à` is a blank to it.
        if !flag.bytes().all(|byte| byte.is_ascii_graphic()) {
            return instruction.fault("options may have ASCII letters, digits and signs only");
        }
        flags.push(flag);
    }
    // A second net, should Docker see an end of an option where none is seen here.
    let begins_anew = |word: &str| word.starts_with("--") && word.len() > 2;
    if !matches!(instruction.word.as_str(), "run") && rest.split(is_blank).any(begins_anew) {
        return instruction
            .fault("options come before all else; write a file's name as `./--NAME`");
    }
    Ok((flags, rest))
}

/// Whether a word begins a here-document for builders that know these.
fn is_here_document(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
    word.strip_prefix("<<").is_some_and(|rest| {
        let rest = rest.trim_start_matches(['-', '"', '\'']);
        rest.starts_with(|c: char| c.is_alphabetic() || c == '_')
    })
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
        let undecided = || {
            let shown: String = source.chars().take(80).collect();
            instruction.fault(format!(
                "ADD `{}`: it cannot be told whether this is an address; use COPY, which only takes files of \
                 the source tree",
                shown.escape_debug()
            ))
        };
        if source.contains('\\') {
            return undecided();
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
            return undecided();
        }
    }
    Ok(())
}

/// A word with its variables replaced and its quotes removed, as far as that can be told for certain.
fn expand(text: &str, values: &BTreeMap<String, String>) -> Result<String, &'static str> {
    let mut expanded = String::new();
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => return Err("backslashes are not supported here"),
            '"' => {
                quoted = !quoted;
                after
            }
            '\'' if !quoted => {
                let (literal, after) = after.split_once('\'').ok_or("a quote is not closed")?;
                expanded.push_str(literal);
                after
            }
            '$' => {
                let (value, after) = variable(after, values)?;
                expanded.push_str(&value);
                if expanded.len() > LARGEST {
                    return Err("it is too long");
                }
                after
            }
            c => {
                expanded.push(c);
                after
            }
        };
    }
    if quoted {
        return Err("a quote is not closed");
    }
    Ok(expanded)
}

/// The variable after a `$`: its value, and what follows.
fn variable<'t>(
    text: &'t str,
    values: &BTreeMap<String, String>,
) -> Result<(String, &'t str), &'static str> {
    let unknown = "expected a variable as $NAME, ${NAME}, ${NAME:-VALUE} or ${NAME:+VALUE}";
    let name_end = |text: &str| {
        text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(text.len())
    };
    let is_name = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let Some(inner) = text.strip_prefix('{') else {
        let (name, after) = text.split_at(name_end(text));
        let value = values.get(name).cloned().unwrap_or_default();
        return if is_name(name) {
            Ok((value, after))
        } else {
            Err(unknown)
        };
    };
    let (inner, after) = inner.split_once('}').ok_or(unknown)?;
    let (name, rule) = inner.split_at(name_end(inner));
    if !is_name(name) || rule.contains(['$', '{', '"', '\'', '\\']) {
        return Err(unknown);
    }
    let value = values.get(name).filter(|value| !value.is_empty());
    let value = if rule.is_empty() {
        value.cloned().unwrap_or_default()
    } else if let Some(default) = rule.strip_prefix(":-") {
        value.map_or_else(|| default.to_owned(), Clone::clone)
    } else if let Some(instead) = rule.strip_prefix(":+") {
        value.map(|_| instead.to_owned()).unwrap_or_default()
    } else {
        return Err(unknown);
    };
    Ok((value, after))
}

#[cfg(test)]
#[path = "dockerfile_tests.rs"]
mod tests;
