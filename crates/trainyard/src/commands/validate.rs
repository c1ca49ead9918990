//! `trainyard validate`

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use trainyard_api::{Client, DaemonInfo};
use trainyard_core::measure::counted;
use trainyard_core::name::DagName;
use trainyard_daemon::exec::{LINKED_DAG_FILE, WorkingTree, is_dag_file, read_dag_file};
use trainyard_dagfile::{Diagnostic, Entry, Parsed};

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output::{self, Format, OutputArgs};

/// How long to wait for a daemon's list of its pools.
const DAEMON: Duration = Duration::from_secs(3);

/// Check DAG files, and show all their faults
///
/// References to the repo (folders to build from, paths) are checked if the file is in a git work tree or in a folder
/// `dags`; files that git ignores do not count. Pools are checked against the daemon that other commands use, if
/// there is one.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// DAG files; folders with DAG files; or repositories, of which `dags/` is checked. A folder without DAG files stands
    /// for the repository that it is in
    #[arg(default_value = ".", value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

impl Validate {
    pub(crate) async fn call(self) -> Done {
        let mut pools = Pools::NotAsked;
        let mut trees = Trees::default();
        let mut reports = Vec::new();
        let mut wrong = 0_u64;
        let mut names: HashMap<(PathBuf, DagName), PathBuf> = HashMap::new();
        for file in files(&self.paths)? {
            let name = file.display().to_string();
            let (text, parsed) = match read(&file) {
                Ok(bytes) => (
                    String::from_utf8_lossy(&bytes).into_owned(),
                    trainyard_dagfile::parse_bytes(&name, &bytes),
                ),
                Err(why) => (String::new(), Parsed::unreadable(&why)),
            };
            let mut diagnostics = parsed.diagnostics.clone();
            if !parsed.outside.paths().is_empty() {
                let entry = trees.around(&file);
                diagnostics.extend(parsed.outside.faults_in_repo(&text, entry));
            }
            let is_good = !diagnostics.iter().any(Diagnostic::is_error);
            if let Some(dag) = parsed.dag.as_ref().filter(|_| is_good) {
                match names.entry((folder_of(&file), dag.name().clone())) {
                    Occupied(first) if first.get().file_name() == file.file_name() => {}
                    Occupied(first) => {
                        let first = first.get().display().to_string();
                        diagnostics.extend(parsed.outside.name_taken(&text, dag.name(), &first));
                    }
                    Vacant(free) => drop(free.insert(file.clone())),
                }
            }
            let is_valid = !diagnostics.iter().any(Diagnostic::is_error);
            diagnostics.extend(pools.warnings(&text, &parsed).await);
            diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
            let dag = parsed.dag.as_ref().filter(|_| is_valid);
            if !is_valid {
                wrong += 1;
            }
            match self.output.output {
                Format::Json => reports.push(json!({
                    "file": name,
                    "dag": dag.map(|dag| dag.name().as_str()),
                    "valid": is_valid,
                    "diagnostics": trainyard_dagfile::to_json(&name, &diagnostics),
                })),
                Format::Table => {
                    if !diagnostics.is_empty() {
                        let colours = output::complains_in_colours();
                        let shown = trainyard_dagfile::render(&name, &text, &diagnostics, colours);
                        output::complain(shown.trim_end());
                    }
                    if let Some(dag) = dag {
                        let stages = counted(dag.stages().len() as u64, "stage");
                        output::text(&format!("{name}: DAG {}, {stages}", dag.name()))?;
                    }
                }
            }
        }
        if let Pools::Unknown = pools {
            output::note(
                "pools were not checked: no daemon answered (TRAINYARD_URL gives its address)",
            );
        }
        if self.output.output == Format::Json {
            output::json(&json!({ "items": reports }))?;
        } else if wrong > 0 {
            output::complain(&format!("{} with faults", counted(wrong, "file")));
        }
        if wrong > 0 {
            Err(Failure::Faults)
        } else {
            Ok(())
        }
    }
}

/// The pools of the daemon that other commands talk to.
enum Pools {
    NotAsked,
    Unknown,
    /// The pools of the daemon at this address.
    Of(String, BTreeMap<String, u32>),
}

impl Pools {
    /// Diagnostics for the pools that a file names. The daemon is called when the first file names one.
    async fn warnings(&mut self, text: &str, parsed: &Parsed) -> Vec<Diagnostic> {
        if !parsed.outside.has_pools() {
            return Vec::new();
        }
        if let Self::NotAsked = self {
            *self = match ask().await {
                Some((url, pools)) => Self::Of(url, pools),
                None => Self::Unknown,
            };
        }
        match self {
            Self::Of(url, pools) => {
                let whose = format!("the daemon at {url}");
                parsed.outside.pool_warnings(text, &whose, pools)
            }
            Self::NotAsked | Self::Unknown => Vec::new(),
        }
    }
}

async fn ask() -> Option<(String, BTreeMap<String, u32>)> {
    let client: Client = Connection::from_variables(None).ok()?.client().ok()?;
    let answer = tokio::time::timeout(DAEMON, client.daemon()).await.ok()?;
    let DaemonInfo { url, pools, .. } = answer.ok()?;
    Some((url, pools?))
}

/// The source trees of files, by their folders. A folder outside of any repository that is not named `dags`, and one
/// that cannot be read, has no known tree.
#[derive(Default)]
struct Trees(HashMap<PathBuf, Option<WorkingTree>>);

impl Trees {
    /// The source tree around a file.
    fn around(&mut self, file: &Path) -> impl Fn(&str) -> Entry {
        let folder = file.canonicalize().ok();
        let folder = folder
            .as_deref()
            .and_then(Path::parent)
            .map(ToOwned::to_owned);
        let tree = folder.and_then(|folder| {
            let holds_dags = folder.file_name().is_some_and(|name| name == "dags");
            let is_known =
                |tree: &WorkingTree| !tree.is_file_alone && (tree.is_of_git || holds_dags);
            let read = || {
                let tree = WorkingTree::of(file).map_err(|error| {
                    output::note(&format!(
                        "files outside of DAG files were not checked: {error}"
                    ));
                });
                tree.ok().filter(is_known)
            };
            self.0.entry(folder.clone()).or_insert_with(read).as_ref()
        });
        move |path| tree.map_or(Entry::Unknown, |tree| tree.entry(path))
    }
}

/// Reads a file, as the daemon reads those in `dags/`.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    if file.is_symlink() && folder_of(file).ends_with("dags") {
        return Err(LINKED_DAG_FILE.to_owned());
    }
    read_dag_file(file).map_err(|error| format!("it cannot be read: {error}"))
}

/// The folder that a file is in, by its canonical path where it has one.
fn folder_of(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// The files that the paths stand for, in the order of the daemon: of two with one name, the first counts.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(files_of(path)?),
            false => files.push(path.clone()),
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The DAG files that a folder stands for: those in its `dags/`; else its own; else those of the repo that it is in.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    // The files are checked even if the repo around them cannot be read.
    let top = WorkingTree::top_around(path).ok().flatten();
    let read_by_daemon = top.map(|top| top.join("dags"));
    let mut folder = path.join("dags");
    if !folder.is_dir() {
        folder = path.to_owned();
    }
    let mut files = dag_files(&folder)?;
    if files.is_empty()
        && let Some(dags) = read_by_daemon.as_ref().filter(|dags| dags.is_dir())
    {
        folder.clone_from(dags);
        files = dag_files(&folder)?;
    }
    if files.is_empty() {
        let folder = folder.display();
        return Err(Failure::usage(format!(
            "{folder} has no DAG files (*.yaml)"
        )));
    }
    if let Some(dags) = read_by_daemon
        && folder.canonicalize().ok().as_ref() != Some(&dags)
    {
        output::note(&format!(
            "a daemon does not read {}: it reads the DAG files in the folder {}, at the top of the repo",
            folder.display(),
            dags.display()
        ));
    }
    Ok(files)
}

/// The DAG files in a folder: those that the daemon would read, and those that it would refuse.
fn dag_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| Failure::file(folder, "read", &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = entry.file_type().map_err(unreadable)?;
        if is_dag_file(entry.file_name().as_bytes()) && (kind.is_file() || kind.is_symlink()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}
