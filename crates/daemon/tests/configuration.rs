//! The configuration from an operator's view: files, flags, variables, and what is printed.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use trainyard_daemon::config::{Database, ExecutorKind, Settings};
use trainyard_daemon::{Config, DaemonArgs, DevArgs};

const EXAMPLE: &str = include_str!("../../../deploy/config.example.toml");

/// A URL with a password that must never be seen.
const WITH_PASSWORD: &str = "postgres://ty:canary@db.example/trainyard";

#[derive(Parser)]
struct Daemon {
    #[command(flatten)]
    args: DaemonArgs,
}

#[derive(Parser)]
struct Dev {
    #[command(flatten)]
    args: DevArgs,
}

fn daemon(arguments: &[&str]) -> Result<Config, String> {
    let all = ["daemon"].iter().chain(arguments);
    let parsed = Daemon::try_parse_from(all).map_err(|error| error.to_string())?;
    Config::for_daemon(&parsed.args).map_err(|error| error.to_string())
}

fn dev(arguments: &[&str]) -> Result<Config, String> {
    let all = ["dev"].iter().chain(arguments);
    let parsed = Dev::try_parse_from(all).map_err(|error| error.to_string())?;
    Config::for_dev(&parsed.args).map_err(|error| error.to_string())
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (place, path)
}

fn with_file(text: &str, more: &[&str]) -> Result<Config, String> {
    let (_place, path) = file(text);
    let path = path.display().to_string();
    let mut arguments = vec!["--config", path.as_str(), "--database-url", WITH_PASSWORD];
    arguments.extend_from_slice(more);
    daemon(&arguments)
}

/// The example with every key in effect.
fn uncommented() -> String {
    let is_key =
        |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let lines = EXAMPLE
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

fn keys(text: &str) -> BTreeSet<String> {
    let table: toml::Table = text.parse().unwrap();
    let mut keys = BTreeSet::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(_) if name == "pools" => {
                keys.insert(name);
            }
            toml::Value::Table(inner) => {
                keys.extend(inner.keys().map(|key| format!("{name}.{key}")));
            }
            _ => {
                keys.insert(name);
            }
        }
    }
    keys
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let known: BTreeSet<String> = Settings::keys().into_keys().collect();
    assert_eq!(keys(&uncommented()), known);
    with_file(&uncommented(), &[]).unwrap();
}

#[test]
fn the_values_of_the_example_are_the_defaults() {
    let from_example = with_file(EXAMPLE, &[]).unwrap().redacted();
    let from_nothing = with_file("", &[]).unwrap().redacted();
    assert_eq!(from_example, from_nothing);
    // Every key that is not commented out must have its value visible here.
    let shown = keys(&from_nothing);
    assert!(
        keys(EXAMPLE).is_subset(&shown),
        "{:?}",
        keys(EXAMPLE).difference(&shown)
    );
}

/// A list as it is written on the command line.
fn listed(values: &[toml::Value]) -> String {
    let texts: Vec<&str> = values.iter().filter_map(toml::Value::as_str).collect();
    texts.join(",")
}

#[test]
fn the_help_names_the_defaults_of_the_example() {
    let example: toml::Table = EXAMPLE.parse().unwrap();
    let help = Settings::keys();
    for key in keys(EXAMPLE) {
        let value = match key.split_once('.') {
            None => &example[&key],
            Some((section, name)) => &example[section][name],
        };
        let Some(value) = value
            .as_str()
            .map(str::to_owned)
            .or_else(|| value.as_array().map(|values| listed(values)))
            .or_else(|| (!value.is_table()).then(|| value.to_string()))
        else {
            continue;
        };
        let default = format!("Default: {value}");
        assert!(help[&key].ends_with(&default), "{key}: {}", help[&key]);
    }
}

#[test]
fn every_key_is_a_flag_and_a_variable_of_the_same_name() {
    let command = <Settings as clap::Args>::augment_args(clap::Command::new("keys"));
    for argument in command.get_arguments() {
        let key = argument.get_id().as_str();
        assert_eq!(
            argument.get_long(),
            Some(key.replace(['.', '_'], "-").as_str()),
            "{key}"
        );
        let variable = format!("TRAINYARD_{}", key.replace('.', "_").to_uppercase());
        assert_eq!(
            argument.get_env().and_then(|name| name.to_str()),
            Some(variable.as_str())
        );
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let text = "parallelism = 3\n[limits]\nlog = \"1MiB\"\n";
    assert_eq!(
        with_file("", &["--parallelism", "5"]).unwrap().parallelism,
        5
    );
    assert_eq!(with_file(text, &[]).unwrap().parallelism, 3);
    let config = with_file(text, &["--parallelism", "4"]).unwrap();
    assert_eq!(config.parallelism, 4);
    assert_eq!(config.limits.log.to_string(), "1MiB");
    assert_eq!(config.limits.artifact.to_string(), "8GiB");
}

/// No test by itself: the next test runs it in a process with an environment of its own.
#[test]
fn child_that_prints_its_configuration() {
    let Ok(arguments) = std::env::var("CONFIGURATION_TEST_ARGUMENTS") else {
        return;
    };
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    match daemon(&arguments) {
        Ok(config) => println!("BEGIN\n{}", config.redacted()),
        Err(error) => println!("BEGIN\n{error}"),
    }
}

fn in_environment(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_that_prints_its_configuration",
            "--nocapture",
        ])
        .env("CONFIGURATION_TEST_ARGUMENTS", arguments.join(" "))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    text.split_once("BEGIN\n")
        .unwrap_or_else(|| panic!("{text}"))
        .1
        .to_owned()
}

#[test]
fn the_environment_is_between_flags_and_file() {
    let (_place, path) = file("parallelism = 3\npoll_every = \"3m\"\nlease = \"33s\"\n");
    let path = path.display().to_string();
    let variables = [
        ("TRAINYARD_DATABASE_URL", WITH_PASSWORD),
        ("TRAINYARD_CONFIG", path.as_str()),
        ("TRAINYARD_PARALLELISM", "4"),
        ("TRAINYARD_POLL_EVERY", "4m"),
        ("TRAINYARD_ALLOW_FILE_URLS", "1"),
        ("TRAINYARD_POOLS", "gpu=2"),
        ("DOCKER_HOST", "unix:///run/other.sock"),
    ];
    let text = in_environment(&variables, &["--parallelism", "5"]);
    for line in [
        "parallelism = 5",
        "poll_every = \"4m\"",
        "lease = \"33s\"",
        "allow_file_urls = true",
        "gpu = 2",
        "host = \"unix:///run/other.sock\"",
        "database_url = \"postgres://ty:***@db.example/trainyard\"",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}

#[test]
fn a_password_is_seen_nowhere() {
    let config = with_file("", &[]).unwrap();
    let (_place, path) = file(&format!("database_url = \"{WITH_PASSWORD}\"\nlisten = 1\n"));
    let from_file = daemon(&["--config", &path.display().to_string()]).unwrap_err();
    let help = in_environment(&[("TRAINYARD_DATABASE_URL", WITH_PASSWORD)], &["--help"]);
    assert!(help.contains("TRAINYARD_DATABASE_URL"), "{help}");
    let wrong = dev(&["--database-url", "mysql://ty:canary@h/d"]).unwrap_err();
    assert!(wrong.contains("postgres://"), "{wrong}");
    for text in [
        config.redacted(),
        format!("{config:?}"),
        from_file,
        help,
        wrong,
    ] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_key_of_the_file_that_a_variable_or_a_flag_overrides_is_named() {
    let text = "data_dir = \"d\"\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"\n";
    let config = with_file(
        text,
        &["--data-dir", "/e", "--log-format", "text", "--lease", "1m"],
    );
    assert_eq!(
        config.unwrap().overridden,
        [
            "data_dir is from TRAINYARD_DATA_DIR or --data-dir, not from the file",
            "log.format is from TRAINYARD_LOG_FORMAT or --log-format, not from the file",
        ]
    );
}

#[test]
fn what_is_printed_can_be_read_as_a_file() {
    let config = with_file("[pools]\ngpu = 2\n", &["--log-format", "json"]).unwrap();
    let again = with_file(&config.redacted(), &[]).unwrap();
    assert_eq!(again.redacted(), config.redacted());
}

#[test]
fn capabilities_of_stages_are_taken_by_their_names() {
    let config = |list: &str| with_file(&format!("[docker]\ncapabilities = {list}\n"), &[]);
    let usual = with_file("", &[]).unwrap().docker.capabilities;
    assert_eq!(
        usual.to_string(),
        "CHOWN,DAC_OVERRIDE,FOWNER,KILL,SETGID,SETUID"
    );
    let own = config("[\"CAP_SYS_NICE\"]").unwrap().docker.capabilities;
    assert_eq!(own.to_string(), "SYS_NICE");
    assert_eq!(config("[]").unwrap().docker.capabilities.to_string(), "");
    let error = config("[\"SUPER\"]").unwrap_err();
    assert!(
        error.contains("docker.capabilities") && error.contains("invalid capability `SUPER`"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = daemon(&["--config", "/nonexistent/config.toml"]).unwrap_err();
    assert!(
        error.contains("/nonexistent/config.toml") && error.contains("No such file"),
        "{error}"
    );
}

#[test]
fn an_address_that_others_reach_needs_permission_because_there_is_no_tls() {
    let error = dev(&["--listen", "0.0.0.0:8080"]).unwrap_err();
    assert!(
        error.contains("TLS") && error.contains("allow_remote = true"),
        "{error}"
    );
    assert!(
        dev(&["--listen", "0.0.0.0:8080", "--allow-remote"])
            .unwrap()
            .allow_remote
    );
    dev(&["--listen", "[::1]:0"]).unwrap();
}

#[test]
fn all_that_does_not_fit_is_said_at_once() {
    let text = "parallelism = 0\nstages_of_a_repo = 0\nlease = \"5s\"\npoll_every = \"1ms\"\n[log]\nlevel = \"a=b=c\"\n[stage]\ncpus = 0\nmemory = \"1B\"\n";
    let error = with_file(text, &[]).unwrap_err();
    for key in [
        "parallelism",
        "stages_of_a_repo",
        "lease",
        "poll_every",
        "log.level",
        "stage.cpus",
        "stage.memory",
    ] {
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn the_public_address_is_one_that_paths_can_be_put_behind() {
    let config = |url: &str| with_file("", &["--public-url", url]);
    let taken = config("https://ci.example.org/trainyard/").unwrap();
    let public = taken.public_url.as_deref();
    assert_eq!(public, Some("https://ci.example.org/trainyard"));
    for wrong in [
        "ci.example.org",
        "ftp://x",
        "https://me:pw@x",
        "https://x/?a=b",
    ] {
        let error = config(wrong).unwrap_err();
        assert!(
            error.contains("public_url") && !error.contains("pw"),
            "{error}"
        );
    }
}

#[test]
fn a_daemon_needs_a_database_and_dev_does_not() {
    let error = daemon(&[]).unwrap_err();
    assert!(
        error.contains("TRAINYARD_DATABASE_URL") && error.contains("trainyard dev"),
        "{error}"
    );
    let config = dev(&["--pg-bin", "/opt/pg/bin"]).unwrap();
    assert!(
        matches!(&config.database, Database::Private { binaries: Some(path), .. } if path == Path::new("/opt/pg/bin")),
        "{:?}",
        config.database
    );
    assert!(config.allow_file_urls);
    assert!(config.data_dir.ends_with(".trainyard") && config.data_dir.is_absolute());
    assert!(!with_file("", &[]).unwrap().allow_file_urls);
}

#[test]
fn stages_never_run_outside_of_docker() {
    assert_eq!(dev(&[]).unwrap().executor, ExecutorKind::Docker);
    let error = dev(&["--executor", "process"]).unwrap_err();
    assert!(error.contains("docker, fake"), "{error}");
}

#[test]
fn paths_in_a_file_are_meant_from_where_it_lies() {
    let (place, path) = file("data_dir = \"data\"\nsecret_key_file = \"keys/k\"\n");
    let config = dev(&["--config", &path.display().to_string()]).unwrap();
    assert_eq!(config.data_dir, place.path().join("data"));
    assert_eq!(config.secret_key_file, place.path().join("keys/k"));
}
