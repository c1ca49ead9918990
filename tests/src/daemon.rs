//! A daemon of a test's own: `trainyard dev`, or `trainyard daemon` on a cluster of the test's.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use crate::cli::{self, Answer};
use crate::place::Place;
pub use crate::shown::{items, stage};
use crate::wait::until;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(300);

/// How long a clean stop may take.
const STOP: Duration = Duration::from_secs(300);

/// The stack of a daemon's threads, in bytes: half of what they have by themselves. Its futures lie within one
/// another, so one that grew could overflow a stack on another machine; here it fails first.
const STACK: &str = "1048576";

/// The program that is started, and its environment.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    /// Variables over a clean environment.
    pub variables: Vec<(String, String)>,
}

impl Default for Launch {
    /// The binary under test, with nothing in particular.
    fn default() -> Self {
        Self {
            program: cli::binary(),
            variables: Vec::new(),
        }
    }
}

/// A running daemon; killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    folder: PathBuf,
    data: PathBuf,
    url: String,
    token: String,
}

impl Daemon {
    /// Starts `trainyard dev` on the data folder `data` and the database of `place`, with more arguments.
    ///
    /// # Panics
    /// When it does not become ready; with the end of its output.
    #[must_use]
    pub fn dev(place: &Place, more: &[&str]) -> Self {
        let database = place.database().url();
        let arguments = [more, &["--database-url", &database]].concat();
        or_panic(Self::try_dev(place, &arguments, &Launch::default()))
    }

    /// Starts `trainyard dev` with a Postgres of its own, as people do.
    ///
    /// # Panics
    /// When it does not become ready; with the end of its output.
    #[must_use]
    pub fn dev_alone(place: &Place) -> Self {
        or_panic(Self::try_dev(place, &[], &Launch::default()))
    }

    /// The same for one that may well end at once.
    ///
    /// # Errors
    /// It ended before it was ready: the end of its output.
    ///
    /// # Panics
    /// When it neither ends nor becomes ready.
    pub fn try_dev(place: &Place, more: &[&str], launch: &Launch) -> Result<Self, String> {
        let data = place.join("data");
        let shown = data.display().to_string();
        let mut arguments = vec!["dev", "--data-dir", &shown, "--listen", "127.0.0.1:0"];
        arguments.extend_from_slice(more);
        Self::start(place.path(), &data, &arguments, launch)
    }

    /// Starts `trainyard daemon` with the configuration `toml`, whose data folder is `data`.
    ///
    /// # Panics
    /// When it does not become ready; with the end of its output.
    #[must_use]
    pub fn production(place: &Place, toml: &str) -> Self {
        or_panic(Self::try_production(place, toml, &Launch::default()))
    }

    /// The same for one that may well end at once.
    ///
    /// # Errors
    /// It ended before it was ready: the end of its output.
    ///
    /// # Panics
    /// When it neither ends nor becomes ready.
    pub fn try_production(place: &Place, toml: &str, launch: &Launch) -> Result<Self, String> {
        let data = place.join("data");
        let text = format!(
            "data_dir = {:?}\nlisten = \"127.0.0.1:0\"\n{toml}",
            data.display().to_string()
        );
        let file = place.write("daemon.toml", &text).display().to_string();
        let arguments = ["daemon", "--config", &file];
        Self::start(place.path(), &data, &arguments, launch)
    }

    fn start(
        folder: &Path,
        data: &Path,
        arguments: &[&str],
        launch: &Launch,
    ) -> Result<Self, String> {
        let endpoint = data.join("endpoint.json");
        // The files of an earlier daemon would be taken for this one's.
        let _ = std::fs::remove_file(&endpoint);
        let output = folder.join("daemon.log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&output)
            .unwrap();
        let mut variables = vec![("RUST_MIN_STACK", STACK)];
        variables.extend(
            launch
                .variables
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let mut child = cli::command_of(&launch.program, folder, &variables, arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let (url, token) = until("a daemon", START, || {
            if let Some(status) = child.try_wait().unwrap() {
                let said = end_of(&output);
                return Ok(Err(format!("the daemon ended with {status}:\n{said}")));
            }
            ready(&endpoint, data)
                .map(Ok)
                .ok_or_else(|| end_of(&output))
        })?;
        Ok(Self {
            child,
            folder: folder.to_owned(),
            data: data.to_owned(),
            url,
            token,
        })
    }

    /// Whether its process has ended, by itself.
    ///
    /// # Panics
    /// When that is unknown.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token that its start left for the command line.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Asks for a path over HTTP, with a token or without. Returns the status and the body.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = http_client().get(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        answer_to(request)
    }

    /// Posts JSON with its token. Returns the status and the body.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn post(&self, path: &str, body: &str) -> (u16, String) {
        let request = http_client()
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .body(body.to_owned());
        answer_to(request)
    }

    /// Its readiness: the state, and the reasons as one text.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn readiness(&self) -> (String, String) {
        let (_, body) = self.get("/readyz", None);
        let said: Value = serde_json::from_str(&body).unwrap();
        let reasons = said["reasons"].as_array().unwrap();
        let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
        (
            said["state"].as_str().unwrap().to_owned(),
            reasons.join("; "),
        )
    }

    /// One of its metrics, written as Prometheus has it: `name{label="value"}`.
    ///
    /// # Panics
    /// When it does not answer, or has no such metric.
    #[track_caller]
    #[must_use]
    pub fn figure(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics", Some(&self.token));
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// All that it printed, over all its starts in this place.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("daemon.log")).unwrap_or_default()
    }

    /// Calls the command line against it.
    pub fn cli<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Answer {
        self.cli_with_input(arguments, "")
    }

    /// As [`Daemon::cli`], with text on standard input.
    pub fn cli_with_input<S: AsRef<OsStr>>(&self, arguments: &[S], input: &str) -> Answer {
        let variables = [
            ("TRAINYARD_URL", self.url.as_str()),
            ("TRAINYARD_TOKEN", &self.token),
        ];
        cli::call_with_input(&self.folder, &variables, arguments, input)
    }

    /// Calls the command line with `--output json` and returns what it printed.
    ///
    /// # Panics
    /// When the call fails.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend_from_slice(&["--output", "json"]);
        self.cli(&all).good().json()
    }

    /// A run as JSON, once it has ended.
    ///
    /// # Panics
    /// When it does not end within `bound`.
    #[track_caller]
    #[must_use]
    pub fn finished_run(&self, id: i64, bound: Duration) -> Value {
        until(&format!("the end of run {id}"), bound, || {
            let run = self.json(&["run", "show", &id.to_string()]);
            if run["finished_at"].is_null() {
                Err(run.to_string())
            } else {
                Ok(run)
            }
        })
    }

    /// Waits until there are `count` runs, and returns their numbers, oldest first.
    ///
    /// # Panics
    /// When they do not come within `bound`.
    #[track_caller]
    #[must_use]
    pub fn runs(&self, count: usize, bound: Duration) -> Vec<i64> {
        until(&format!("{count} runs"), bound, || {
            let mut runs = self.run_ids();
            runs.sort_unstable();
            if runs.len() >= count {
                Ok(runs)
            } else {
                Err(format!("{runs:?}"))
            }
        })
    }

    /// The numbers of all runs, newest first.
    #[track_caller]
    #[must_use]
    pub fn run_ids(&self) -> Vec<i64> {
        let listing = self.json(&["run", "list"]);
        items(&listing)
            .iter()
            .map(|run| run["id"].as_i64().unwrap())
            .collect()
    }

    /// Stops it as Ctrl-C does, and waits until it has ended. Returns its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> Option<i32> {
        signal(self.pid(), "INT");
        until("the end of the daemon", STOP, || {
            self.child
                .try_wait()
                .unwrap()
                .ok_or_else(|| end_of(&self.folder.join("daemon.log")))
        })
        .code()
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A clean stop first: it takes a private Postgres along.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.pid(), "INT");
            for _ in 0..200 {
                if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[track_caller]
fn answer_to(request: reqwest::RequestBuilder) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

#[track_caller]
fn or_panic(started: Result<Daemon, String>) -> Daemon {
    started.unwrap_or_else(|said| panic!("{said}"))
}

#[must_use]
pub fn http_client() -> reqwest::Client {
    static PROVIDER: LazyLock<()> = LazyLock::new(|| {
        // Another thread may have been first: then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    LazyLock::force(&PROVIDER);
    reqwest::Client::new()
}

/// Sends a signal by its name.
///
/// # Panics
/// When `kill` is missing.
pub fn signal(pid: u32, name: &str) {
    std::process::Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()
        .unwrap();
}

fn ready(endpoint: &Path, data: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(endpoint).ok()?;
    let url = serde_json::from_str::<Value>(&text).ok()?["url"]
        .as_str()?
        .to_owned();
    let token = std::fs::read_to_string(data.join("token"))
        .ok()?
        .trim()
        .to_owned();
    let address = url.strip_prefix("http://")?;
    std::net::TcpStream::connect(address).ok()?;
    Some((url, token))
}

fn end_of(output: &Path) -> String {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
