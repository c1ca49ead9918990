//! The script language for the program of a stage that runs on [`Fake`](super::Fake).
//!
//! It is read from the command: `Exec(["fake", DIRECTIVE…])`, or a `Script` whose first line is
//! `fake` with one directive on each line after it (blank lines and `#` comments are skipped).
//! Any other command counts as a program that succeeds at once, so that real DAG files run through;
//! `false` is the one that fails.
//!
//! | directive            | what the program does                                                    |
//! |----------------------|--------------------------------------------------------------------------|
//! | `log=TEXT`           | prints a line                                                            |
//! | `err=TEXT`           | prints a line to standard error                                          |
//! | `env=NAME`           | prints `NAME=value`, or `NAME is not set`                                |
//! | `input=NAME`         | prints the content of an input                                           |
//! | `sleep=100ms`        | takes that long (`ms`, `s`, `m`) before the next directive               |
//! | `output=PATH:TEXT`   | writes a file below the outputs folder                                   |
//! | `metrics={…}`        | writes `metrics.json` there                                              |
//! | `copies=10m`         | each copy of its outputs takes that long                                 |
//! | `exit=3`, `exit=1,0` | ends with that code; with a list, attempt *n* takes the *n*-th, then the last |
//! | `oom`                | is killed by the kernel for its use of memory                            |
//! | `hang`               | never ends by itself                                                     |
//! | `stubborn`           | does not end on SIGTERM                                                  |
//! | `writes=SIZE`        | has written that many bytes to Docker's disk                         |
//! | `lost`               | its container vanishes when it would have ended                          |
//! | `unknown`            | ends, and Docker does not know how                                       |
//!
//! And for Docker:
//!
//! | directive            | what happens                                                             |
//! |----------------------|--------------------------------------------------------------------------|
//! | `image_missing`      | `create` finds no such image                                             |
//! | `start_error=TEXT`   | `start` cannot start the program                                         |
//! | `trouble=CALL:N`     | the first N calls of `create`, `start`, `inspect`, `wait`, `logs`, `collect`, `stop` or `remove` get no answer |

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret;
use trainyard_core::measure::{DURATION_FORM, parse_duration};
use trainyard_core::render::RenderedCommand;

use crate::contract::Stream;
use crate::spec::AttemptSpec;

/// How a scripted program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Exit { code: i32, out_of_memory: bool },
    Vanish,
    Unknown,
}

/// A call of the contract, as far as scripts can disturb it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Create,
    Start,
    Inspect,
    Wait,
    Logs,
    Collect,
    Stop,
    Remove,
}

impl Call {
    fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "create" => Self::Create,
            "start" => Self::Start,
            "inspect" => Self::Inspect,
            "wait" => Self::Wait,
            "logs" => Self::Logs,
            "collect" => Self::Collect,
            "stop" => Self::Stop,
            "remove" => Self::Remove,
            _ => return None,
        })
    }
}

/// A piece of output, and when it comes, counted from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Printed {
    pub(super) after: Duration,
    pub(super) stream: Stream,
    pub(super) bytes: Bytes,
}

/// The program of one attempt, with nothing left to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) printed: Vec<Printed>,
    /// How long it runs; `None` for ever.
    pub(super) length: Option<Duration>,
    pub(super) end: End,
    pub(super) stubborn: bool,
    pub(super) written: Option<u64>,
    pub(super) outputs: BTreeMap<String, Vec<u8>>,
    /// How long the copy of an output takes.
    pub(super) copy_time: Duration,
    pub(super) image_missing: bool,
    pub(super) start_error: Option<String>,
    pub(super) trouble: Vec<(Call, u32)>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            printed: Vec::new(),
            length: Some(Duration::ZERO),
            end: End::Exit {
                code: 0,
                out_of_memory: false,
            },
            stubborn: false,
            written: None,
            outputs: BTreeMap::new(),
            copy_time: Duration::ZERO,
            image_missing: false,
            start_error: None,
            trouble: Vec::new(),
        }
    }
}

impl Program {
    /// Reads the program of an attempt.
    ///
    /// # Errors
    /// Describes the directive that is wrong.
    pub(super) fn read(spec: &AttemptSpec) -> Result<Self, String> {
        let mut program = Self::default();
        for directive in directives(spec.command.as_ref()) {
            program.obey(directive, spec).map_err(|problem| {
                format!("the fake's script is wrong at `{directive}`: {problem}")
            })?;
        }
        Ok(program)
    }

    fn obey(&mut self, directive: &str, spec: &AttemptSpec) -> Result<(), String> {
        let (word, value) = match directive.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (directive, None),
        };
        let needed = || value.ok_or_else(|| "it needs a value".to_owned());
        match word {
            "log" => self.print(Stream::Stdout, needed()?.as_bytes()),
            "err" => self.print(Stream::Stderr, needed()?.as_bytes()),
            "env" => {
                let line = variable(spec, needed()?);
                self.print(Stream::Stdout, line.as_bytes());
            }
            "input" => {
                let content = input(spec, needed()?)?;
                self.print(Stream::Stdout, &content);
            }
            "sleep" => {
                let more = duration(needed()?)?;
                self.length = self.length.map(|length| length + more);
            }
            "output" => {
                let (path, text) = needed()?
                    .split_once(':')
                    .ok_or_else(|| "write it as `output=PATH:TEXT`".to_owned())?;
                self.outputs
                    .insert(path.to_owned(), text.as_bytes().to_vec());
            }
            "metrics" => {
                let text = needed()?.as_bytes().to_vec();
                self.outputs.insert("metrics.json".to_owned(), text);
            }
            "copies" => self.copy_time = duration(needed()?)?,
            "exit" => self.end = exit(needed()?, spec.number)?,
            "oom" => {
                self.end = End::Exit {
                    code: 137,
                    out_of_memory: true,
                }
            }
            "hang" => self.length = None,
            "stubborn" => self.stubborn = true,
            "writes" => {
                let bytes = needed()?;
                let bytes = bytes
                    .parse()
                    .map_err(|_| format!("`{bytes}` is not a number"))?;
                self.written = Some(bytes);
            }
            "lost" => self.end = End::Vanish,
            "unknown" => self.end = End::Unknown,
            "image_missing" => self.image_missing = true,
            "start_error" => self.start_error = Some(needed()?.to_owned()),
            "trouble" => {
                let (call, times) = needed()?
                    .split_once(':')
                    .ok_or_else(|| "write it as `trouble=CALL:N`".to_owned())?;
                let call = Call::from_word(call).ok_or_else(|| format!("unknown call `{call}`"))?;
                let times = times
                    .parse()
                    .map_err(|_| format!("`{times}` is not a number"))?;
                self.trouble.push((call, times));
            }
            _ => return Err(format!("unknown directive `{word}`")),
        }
        Ok(())
    }

    fn print(&mut self, stream: Stream, text: &[u8]) {
        let mut line = text.to_vec();
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        self.printed.push(Printed {
            after: self.length.unwrap_or_default(),
            stream,
            bytes: line.into(),
        });
    }
}

/// The directives of a command; none for a command that is not written for the fake.
fn directives(command: Option<&RenderedCommand>) -> Vec<&str> {
    match command {
        Some(RenderedCommand::Exec(items)) => match items.first().map(String::as_str) {
            Some("fake") => items[1..].iter().map(String::as_str).collect(),
            Some("false") => vec!["exit=1"],
            Some(_) | None => Vec::new(),
        },
        Some(RenderedCommand::Script(script)) => {
            let mut lines = script
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            match lines.next() {
                Some("fake") => lines.collect(),
                Some("false") => vec!["exit=1"],
                Some(_) | None => Vec::new(),
            }
        }
        None => Vec::new(),
    }
}

fn exit(codes: &str, attempt: u32) -> Result<End, String> {
    let codes: Vec<i32> = codes
        .split(',')
        .map(|code| {
            code.trim()
                .parse()
                .map_err(|_| format!("`{code}` is not a valid exit code"))
        })
        .collect::<Result<_, _>>()?;
    let index = (attempt.max(1) as usize - 1).min(codes.len() - 1);
    Ok(End::Exit {
        code: codes[index],
        out_of_memory: false,
    })
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("invalid duration `{text}`: write {DURATION_FORM}"))
}

fn variable(spec: &AttemptSpec, name: &str) -> String {
    let secret = spec.secrets.get(name).map(|secret| secret.expose_secret());
    match secret.or(spec.env.get(name).map(String::as_str)) {
        Some(value) => format!("{name}={value}"),
        None => format!("{name} is not set"),
    }
}

fn input(spec: &AttemptSpec, name: &str) -> Result<Vec<u8>, String> {
    let input = spec
        .inputs
        .iter()
        .find(|input| input.name.as_str() == name)
        .ok_or_else(|| format!("there is no input `{name}`"))?;
    let mut content = Vec::new();
    let read = input.blob.open();
    read.and_then(|mut bytes| bytes.read_to_end(&mut content))
        .map_err(|error| format!("the input cannot be read: {error}"))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("100").is_err());
        assert!(duration("fast").is_err());
    }

    #[test]
    fn what_is_not_written_for_the_fake_succeeds_at_once() {
        let script = RenderedCommand::Script("python train.py\n".to_owned());
        assert!(directives(Some(&script)).is_empty());
        let fake = RenderedCommand::Script("\n# two lines\nfake\n  log=a\nexit=1\n".to_owned());
        assert_eq!(directives(Some(&fake)), ["log=a", "exit=1"]);
    }

    #[test]
    fn an_attempt_takes_its_own_exit_code_from_a_list() {
        let code = |attempt| match exit("2,1,0", attempt) {
            Ok(End::Exit { code, .. }) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!([code(1), code(2), code(3), code(4)], [2, 1, 0, 0]);
    }
}
