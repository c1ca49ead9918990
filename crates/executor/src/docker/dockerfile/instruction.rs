//! The instructions of a Dockerfile: its lines joined, as Docker's builders join them.

use super::word::quoted_words;
use super::{Builder, DockerfileFault, LARGEST};

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

/// One instruction, its lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    /// The line that it begins in, from 1.
    pub(super) line: usize,
    /// The column that it begins in, from 1.
    pub(super) column: usize,
    /// Its word, in lower case.
    pub(super) word: String,
    pub(super) rest: String,
    /// The texts of its here-documents.
    pub(super) documents: String,
}

impl Instruction {
    pub(super) fn fault<T>(&self, message: impl Into<String>) -> Result<T, DockerfileFault> {
        Err(DockerfileFault {
            line: self.line,
            column: self.column,
            message: message.into(),
            needs_buildkit: false,
        })
    }
}

/// The characters that separate words within an instruction.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

/// How a builder reads indented comments within an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndentedComments {
    /// As comments, which Docker 20.10 and newer do.
    Comments,
    /// As text of the instruction.
    Text,
}

/// The instructions of a text; and the reason why another reading of indented comments could find others, if so.
pub(super) fn instructions(
    text: &[u8],
    indented: IndentedComments,
    builder: &Builder,
) -> Result<(Vec<Instruction>, Option<DockerfileFault>), DockerfileFault> {
    let at = |line: usize, column: usize, message: &str| DockerfileFault {
        line,
        column,
        message: message.to_owned(),
        needs_buildkit: false,
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
    let mut ambiguous = None;
    let mut lines = text.split('\n').enumerate();
    let mut in_head = true;
    while let Some((index, raw)) = lines.next() {
        let number = index + 1;
        let raw = without_return(raw).map_err(|text| at(number, 1, text))?;
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
            let raw = without_return(raw).map_err(|text| at(number, 1, text))?;
            if raw.contains('\0') {
                return Err(at(number, 1, "the line has a NUL"));
            }
            if raw.starts_with('#') {
                continue;
            }
            if indented == IndentedComments::Comments && raw.trim_start().starts_with('#') {
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
                ambiguous.get_or_insert_with(|| at(number, 1, message));
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
        let mut instruction = Instruction {
            line: number,
            column,
            word: word.to_ascii_lowercase(),
            rest: rest.trim().to_owned(),
            documents: String::new(),
        };
        if !is_instruction(word) {
            let shown: String = word.chars().take(40).collect();
            let shown = shown.escape_debug();
            return instruction.fault(format!("unknown instruction `{shown}`"));
        }
        let may_have_documents = matches!(instruction.word.as_str(), "add" | "copy" | "run");
        if may_have_documents && has_here_document(&instruction.rest) {
            let knows = builder.knows("a here-document (`<<NAME`)", (23, 0));
            let instead = ", or commit the text as a file and `COPY` it";
            knows.map_err(|lack| lack.with(instead).at(number, column))?;
            let documents = match here_documents(&instruction.rest) {
                Ok(documents) => documents,
                Err(message) => return instruction.fault(message),
            };
            for document in documents {
                loop {
                    let Some((_, raw)) = lines.next() else {
                        let name = document.name;
                        return instruction.fault(format!("the here-document `{name}` has no end"));
                    };
                    if document.ends_at(raw) {
                        break;
                    }
                    instruction.documents.push_str(raw);
                    instruction.documents.push('\n');
                }
            }
        }
        found.push(instruction);
    }
    Ok((found, ambiguous))
}

/// A text that follows an instruction.
struct HereDocument {
    name: String,
    /// Whether tabs before its end do not count: `<<-`.
    is_indented: bool,
}

impl HereDocument {
    fn ends_at(&self, line: &str) -> bool {
        let line = line.trim_end_matches('\r');
        let line = if self.is_indented {
            line.trim_start_matches('\t')
        } else {
            line
        };
        line == self.name
    }
}

/// The here-documents that follow an instruction, in their plain forms only: if BuildKit read one differently, it
/// could take a text for instructions, or instructions for a text.
fn here_documents(text: &str) -> Result<Vec<HereDocument>, &'static str> {
    const PLAIN: &str = "write the here-document as <<NAME or <<-NAME, where NAME is of letters, digits, `_`, `.` \
                         and `-`, may be in quotes, and has neither backslashes nor `${` next to it; put `<<` that \
                         begins none in quotes";
    let is_odd = |c: char| c == '\\' || (c.is_whitespace() && !is_blank(c));
    if text.contains(is_odd) || text.contains("${") {
        return Err(PLAIN);
    }
    let mut found = Vec::new();
    for word in quoted_words(text) {
        if word.matches('"').count() % 2 != 0 || word.matches('\'').count() % 2 != 0 {
            return Err(PLAIN);
        }
        if !begins_here_document(word) {
            continue;
        }
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let word = word.strip_prefix("<<").unwrap_or(word);
        let (word, is_indented) = match word.strip_prefix('-') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let quoted = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
        let name = quoted('"').or_else(|| quoted('\'')).unwrap_or(word);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(PLAIN);
        }
        found.push(HereDocument {
            name: name.to_owned(),
            is_indented,
        });
    }
    if found.is_empty() {
        return Err(PLAIN);
    }
    Ok(found)
}

/// A Dockerfile that names no program to read it: Docker would fetch that program, and run it. Docker's own one is
/// part of Docker as well.
pub(in super::super) fn without_frontend(text: &[u8]) -> Vec<u8> {
    let mut without = text.to_vec();
    let mut begin = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let after_mark = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let is_comment = after_mark.trim_ascii_start().starts_with(b"#");
        if !is_comment {
            break;
        }
        // A directive has a name of letters and digits before its first `=`.
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
        if name.len() < line.len()
            && name
                .to_ascii_lowercase()
                .trim_ascii_end()
                .ends_with(b"syntax")
        {
            without[begin..begin + name.len()]
                .iter_mut()
                .filter(|byte| byte.is_ascii_alphabetic())
                .for_each(|byte| *byte = b'-');
        }
        begin += line.len();
    }
    without
}

pub(super) fn is_instruction(word: &str) -> bool {
    INSTRUCTIONS.contains(&word.to_ascii_lowercase().as_str())
}

/// A line without the carriage return at its end.
fn without_return(line: &str) -> Result<&str, &'static str> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.ends_with('\r') {
        return Err(
            "the line ends with two carriage returns: versions of Docker read that in different ways. Remove one",
        );
    }
    Ok(line)
}

/// A line without the mark that joins the next one to it, and whether it had one.
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

/// Checks the comments at the top of a file, which may direct how it is read.
fn directive(comment: &str) -> Result<(), String> {
    let Some((name, value)) = comment.split_once('=') else {
        return Ok(());
    };
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    match name.as_str() {
        "escape" if value != "\\" => {
            Err("the escape character cannot be changed: only the backslash is supported".to_owned())
        }
        // Docker's own is used instead of it, see `without_frontend`.
        "syntax" if is_official(value) => Ok(()),
        "syntax" => Err(
            "other frontends than docker/dockerfile are not supported: remove the line `# syntax=…`".to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Whether a frontend is one that Docker publishes.
fn is_official(reference: &str) -> bool {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.split([':', '@']).next().unwrap_or(name);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// The options before the arguments of an instruction, and the arguments.
pub(super) fn flags(instruction: &Instruction) -> Result<(Vec<&str>, &str), DockerfileFault> {
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
    // A second net, in case Docker finds the end of an option where none is found here.
    let begins_option = |word: &str| word.starts_with("--") && word.len() > 2;
    if !matches!(instruction.word.as_str(), "run") && rest.split(is_blank).any(begins_option) {
        return instruction
            .fault("options come before all else; write a file's name as `./--NAME`");
    }
    Ok((flags, rest))
}

/// Whether a builder that knows here-documents could find the beginning of one: `<<` at the beginning of a
/// word that is not within quotes. To such a builder the lines after it are not instructions.
pub(super) fn has_here_document(text: &str) -> bool {
    let mut quote = None;
    // After an escape or a substitution, which both may hold quotes, no quote counts.
    let mut quotes_are_sure = true;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let in_quotes = quotes_are_sure && quote.is_some();
        if before.is_whitespace() && !in_quotes && begins_here_document(&text[at..]) {
            return true;
        }
        if quote != Some('\'') && (c == '\\' || (before == '$' && c == '{')) {
            quotes_are_sure = false;
        }
        if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        }
        before = c;
    }
    false
}

fn begins_here_document(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.strip_prefix("<<").is_some_and(|rest| {
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        rest.starts_with(|c: char| !c.is_whitespace() && c != '<')
    })
}
