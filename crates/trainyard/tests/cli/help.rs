//! The help of every command, as a whole.

use crate::binary::Place;

/// Commands whose arguments are the daemon's configuration.
const CONFIGURED: [&str; 3] = ["dev", "daemon", "doctor"];

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let commands = help
        .split_once("\nCommands:\n")
        .map_or("", |(_, rest)| rest);
    let lines = commands.lines().take_while(|line| !line.is_empty());
    // A continued line is indented further.
    lines
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))
        })
        .filter_map(|line| line.split_whitespace().next())
        .map(ToOwned::to_owned)
        .collect()
}

/// Adds the help of a command and of all below it.
fn explain(place: &Place, command: &[String], text: &mut String) {
    let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    arguments.push("--help");
    let answer = place.call(&arguments);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.stderr, "");
    // The arguments for the daemon are the same everywhere, and shown once, with `repo`.
    let own = match command {
        [repo] if repo == "repo" => answer.stdout.as_str(),
        _ => answer
            .stdout
            .split_once("\nDaemon:\n")
            .map_or(answer.stdout.as_str(), |(own, _)| own),
    };
    if !command
        .first()
        .is_some_and(|first| CONFIGURED.contains(&first.as_str()) && command.len() == 1)
    {
        text.push_str(&format!("$ trainyard {}\n{own}\n", arguments.join(" ")));
    }
    for name in listed(&answer.stdout) {
        let below: Vec<String> = command.iter().cloned().chain([name]).collect();
        explain(place, &below, text);
    }
}

#[test]
fn every_command_explains_itself() {
    let mut text = String::new();
    explain(&Place::new(), &[], &mut text);
    insta::assert_snapshot!(text);
}

#[test]
fn the_commands_of_the_daemon_take_its_configuration() {
    let place = Place::new();
    for command in CONFIGURED {
        let answer = place.call(&[command, "--help"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        for flag in ["--config <FILE>", "--listen <IP:PORT>", "--data-dir"] {
            assert!(answer.stdout.contains(flag), "{command} {flag}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_says_so_on_standard_error() {
    let place = Place::new();
    let wrong: [&[&str]; 8] = [
        &[],
        &["rnu", "list"],
        &["run", "show", "two words"],
        &["run", "list", "--since", "yesterday"],
        &["run", "list", "--state", "sleeping"],
        &["dag", "trigger", "x", "-p", "epochs"],
        &["dag", "trigger", "x", "--follow", "--output", "json"],
        &["run", "retry", "1", "--from-failed", "--from", "a"],
    ];
    for arguments in wrong {
        let answer = place.call(arguments);
        assert_eq!(answer.code, Some(2), "{arguments:?} {answer:?}");
        assert!(!answer.stderr.is_empty() && answer.stdout.is_empty());
    }
}

#[test]
fn every_shell_gets_completions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = place.call(&["completions", shell]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.stdout.contains("trainyard"), "{shell}");
    }
}
