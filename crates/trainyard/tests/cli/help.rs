//! The help of every command, as a whole.

use crate::binary::Place;

/// All commands but those whose arguments are the daemon's configuration.
const COMMANDS: [&[&str]; 46] = [
    &[],
    &["exec"],
    &["validate"],
    &["graph"],
    &["schema"],
    &["completions"],
    &["init"],
    &["status"],
    &["repo"],
    &["repo", "add"],
    &["repo", "list"],
    &["repo", "show"],
    &["repo", "sync"],
    &["repo", "set"],
    &["repo", "deliveries"],
    &["repo", "remove"],
    &["dag"],
    &["dag", "list"],
    &["dag", "show"],
    &["dag", "trigger"],
    &["dag", "pause"],
    &["dag", "unpause"],
    &["dag", "next"],
    &["dag", "remove"],
    &["run"],
    &["run", "list"],
    &["run", "show"],
    &["run", "logs"],
    &["run", "watch"],
    &["run", "cancel"],
    &["run", "retry"],
    &["run", "why"],
    &["run", "events"],
    &["artifact"],
    &["artifact", "list"],
    &["artifact", "get"],
    &["metric"],
    &["metric", "list"],
    &["secret"],
    &["secret", "set"],
    &["secret", "list"],
    &["secret", "remove"],
    &["token"],
    &["token", "create"],
    &["token", "list"],
    &["gc"],
];

#[test]
fn every_command_explains_itself() {
    let place = Place::new();
    let mut text = String::new();
    for command in COMMANDS {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let answer = place.call(&arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.stderr, "");
        // The arguments for the daemon are the same everywhere, and shown once, with `repo`.
        let (own, _) = match command {
            ["repo"] => (answer.stdout.as_str(), ""),
            _ => answer
                .stdout
                .split_once("\nDaemon:\n")
                .unwrap_or((&answer.stdout, "")),
        };
        text.push_str(&format!("$ trainyard {}\n{own}\n", arguments.join(" ")));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_commands_of_the_daemon_take_its_configuration() {
    let place = Place::new();
    for command in ["dev", "daemon", "doctor"] {
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
