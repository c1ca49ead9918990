//! Every command line in the documentation, the examples and the messages is valid.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::Cli;
use crate::variables::without_variables;

/// Files and folders whose content users read.
const PAGES: [&str; 5] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs",
    "dags",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files below a path with these endings.
fn files(path: &Path, endings: &[&str]) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| files(&entry.unwrap().path(), endings))
            .collect();
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    let wanted = ending.is_some_and(|ending| endings.contains(&ending));
    wanted.then(|| path.to_owned()).into_iter().collect()
}

/// The commands of a shell script, each as its words. Comments and redirections are left out.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut rest = script;
    while let Some(first) = rest.chars().next() {
        match first {
            '\\' if rest.starts_with("\\\n") => rest = &rest[2..],
            ' ' => rest = &rest[1..],
            '#' => rest = rest.find('\n').map_or("", |end| &rest[end..]),
            '\n' | ';' | '&' | '|' | '(' | ')' => {
                commands.push(Vec::new());
                rest = &rest[1..];
            }
            '<' if rest.starts_with("<(") => rest = &rest[1..],
            '<' | '>' => {
                // `2>&1` or `> FILE`: the target is not a word of the command.
                let target = rest.trim_start_matches(['<', '>', '&', ' ']);
                rest = word(target).1;
            }
            _ => {
                let (word, after) = word(rest);
                rest = after;
                let is_descriptor = rest.starts_with('>') && word.parse::<u8>().is_ok();
                if let Some(command) = commands.last_mut()
                    && !is_descriptor
                {
                    command.push(word);
                }
            }
        }
    }
    commands
}

/// The first word of a script, without its quotes, and the rest of the script.
fn word(script: &str) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    for (at, letter) in script.char_indices() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => word.push(letter),
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            None if " \n;&|()<>".contains(letter) => return (word, &script[at..]),
            None => word.push(letter),
        }
    }
    (word, "")
}

/// The arguments of `trainyard`, if the command calls it.
fn arguments(command: &[String]) -> Option<&[String]> {
    let is_assignment = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| {
            name.chars()
                .all(|letter| letter.is_ascii_uppercase() || letter == '_')
        })
    };
    let start = command.iter().position(|word| !is_assignment(word))?;
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words[start..] {
        ["trainyard", ..] => Some(&command[start + 1..]),
        ["sudo", "-u", _, "trainyard", ..] => Some(&command[start + 4..]),
        ["cargo", "run", "--package", "trainyard", "--", ..] => Some(&command[start + 5..]),
        _ => None,
    }
}

/// The shell code blocks of a page.
fn scripts(page: &str) -> impl Iterator<Item = String> {
    let blocks = page.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| {
        let script = block.strip_prefix("sh\n")?;
        Some(
            script
                .lines()
                .map(str::trim_start)
                .collect::<Vec<_>>()
                .join("\n"),
        )
    })
}

/// The command lines in backticks, within the paragraphs of a page or the lines of a source file.
fn spans(text: &str, between: &str) -> Vec<String> {
    text.split(between)
        .filter(|part| !part.starts_with("```"))
        .flat_map(|part| part.split('`').skip(1).step_by(2))
        .filter(|span| span.starts_with("trainyard "))
        .map(|span| span.replace('\n', " "))
        .collect()
}

/// A source file, with its multi-line texts joined.
fn joined(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

/// The error of the command line for these arguments, if they are invalid.
fn refusal(arguments: &[String]) -> Option<clap::Error> {
    let command = without_variables(Cli::command(), &|_| true);
    let words = arguments.iter().map(|word| filled(word));
    let error = command
        .try_get_matches_from(["trainyard".to_owned()].into_iter().chain(words))
        .err()?;
    // For clap, help and version are errors that do not use the error stream.
    error.use_stderr().then_some(error)
}

/// A word with a value for each placeholder: `RUN`, `[NAME=VALUE]`, `{run}`.
fn filled(word: &str) -> String {
    let word = word.trim_end_matches("...").trim_matches(['[', ']']);
    let is_name = |word: &str| {
        let mut letters = word.chars();
        letters.all(|letter| letter.is_ascii_uppercase() || "_.=".contains(letter))
    };
    match word {
        "COMMAND" => "status".to_owned(),
        "SHELL" => "bash".to_owned(),
        "TEMPLATE" => "hello".to_owned(),
        _ if word.contains(['{', '…']) => "1".to_owned(),
        _ if is_name(word) => vec!["1"; word.split('=').count()].join("="),
        _ => word.to_owned(),
    }
}

/// The same for a command that a sentence may name without its required arguments.
fn refusal_of_part(arguments: &[String]) -> Option<clap::Error> {
    let is_cut = |error: &clap::Error| {
        matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        )
    };
    let with_value = [arguments, &["1".to_owned()]].concat();
    let error = refusal(arguments).filter(|error| !is_cut(error))?;
    let last_is_flag = arguments.last().is_some_and(|word| word.starts_with("--"));
    let is_taken = last_is_flag && refusal(&with_value).is_none_or(|error| is_cut(&error));
    (!is_taken).then_some(error)
}

#[track_caller]
fn assert_no_faults(faults: &[String], count: usize, at_least: usize) {
    assert!(count >= at_least, "only {count} command lines were found");
    assert!(
        faults.is_empty(),
        "{} wrong:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn every_command_line_in_a_code_block_is_one_that_trainyard_takes() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for path in PAGES
        .iter()
        .chain(&["deploy"])
        .flat_map(|page| files(&root().join(page), &["md"]))
    {
        let page = std::fs::read_to_string(&path).unwrap();
        for script in scripts(&page) {
            for command in commands(&script) {
                let Some(arguments) = arguments(&command) else {
                    continue;
                };
                count += 1;
                if let Some(error) = refusal(arguments) {
                    faults.push(format!("{}: {command:?}: {error}", path.display()));
                }
            }
        }
    }
    assert_no_faults(&faults, count, 35);
}

#[test]
fn every_command_line_in_the_head_of_an_example_is_one_that_trainyard_takes() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for path in files(&root().join("dags"), &["yaml"]) {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.starts_with('#')) {
            let Some(at) = line.find("trainyard ") else {
                continue;
            };
            for command in commands(&line[at..]) {
                count += 1;
                if let Some(error) = arguments(&command).and_then(refusal) {
                    faults.push(format!("{}: {line}: {error}", path.display()));
                }
            }
        }
    }
    assert_no_faults(&faults, count, 10);
}

#[test]
fn every_command_that_a_text_or_a_message_names_is_there_with_its_flags() {
    let (mut faults, mut count) = (Vec::new(), 0);
    let pages = PAGES
        .iter()
        .chain(&["deploy"])
        .map(|page| (*page, "md", "\n\n"));
    let sources = [("crates", "rs", "\n"), ("dags", "yaml", "\n")];
    for (folder, ending, between) in pages.chain(sources) {
        for path in files(&root().join(folder), &[ending]) {
            let text = std::fs::read_to_string(&path).unwrap();
            for span in spans(&joined(&text), between) {
                count += 1;
                if let Some(error) = commands(&span)
                    .iter()
                    .filter_map(|command| arguments(command))
                    .find_map(refusal_of_part)
                {
                    faults.push(format!("{}: `{span}`: {error}", path.display()));
                }
            }
        }
    }
    assert_no_faults(&faults, count, 100);
}

#[test]
fn every_command_in_the_table_of_commands_is_there_with_its_flags() {
    let page = std::fs::read_to_string(root().join("docs/cli.md")).unwrap();
    let (mut faults, mut count) = (Vec::new(), 0);
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap();
        for span in cell.split('`').skip(1).step_by(2) {
            count += 1;
            if let Some(error) = commands(span)
                .iter()
                .find_map(|words| refusal_of_part(words))
            {
                faults.push(format!("`{span}`: {error}"));
            }
        }
    }
    assert_no_faults(&faults, count, 40);
}
