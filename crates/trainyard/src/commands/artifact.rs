//! `trainyard artifact`

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use trainyard_api::{Artifact, Client};
use trainyard_core::measure::in_units;

use crate::commands::run::name::RunName;
use crate::connection::Group;
use crate::failure::{Done, Failure, Problem, suggestion};
use crate::output::{self, OutputArgs};
use crate::view;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the artifacts of a run
    List {
        /// The run's number, `latest`, or a DAG for its newest run
        run: RunName,
        #[command(flatten)]
        output: OutputArgs,
    },
    Get(Get),
}

/// Fetch an artifact: a file, or a folder as a tar archive
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The run's number, `latest`, or a DAG for its newest run
    run: RunName,

    /// The artifact, as STAGE.OUTPUT
    #[arg(value_name = "STAGE.OUTPUT")]
    artifact: String,

    /// The destination: a file, a folder, or `-` for standard output. Default: STAGE.OUTPUT in this folder
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,

    /// Overwrite an existing file
    #[arg(short, long)]
    force: bool,
}

impl Group<Verb> {
    pub(crate) async fn call(self) -> Done {
        let client = self.connection.client()?;
        match self.verb {
            Verb::List { run, output } => {
                let artifacts = client.artifacts(run.number(&client).await?).await?;
                let table = || view::artifact::list(&artifacts.items, output.screen());
                output.show(&artifacts, table)
            }
            Verb::Get(get) => get.call(&client).await,
        }
    }
}

impl Get {
    async fn call(self, client: &Client) -> Done {
        let run = self.run.number(client).await?;
        let all = client.artifacts(run).await?.items;
        let name = |artifact: &Artifact| format!("{}.{}", artifact.stage, artifact.output);
        let Some(artifact) = all.iter().find(|known| name(known) == self.artifact) else {
            let names: Vec<String> = all.iter().map(name).collect();
            let problem = Problem::new(format!("run {run} has no artifact {}", self.artifact));
            return Err(Failure::NotFound(
                problem.help(suggestion(&self.artifact, &names)),
            ));
        };
        match self.to {
            Some(to) if to == Path::new("-") => fetch(client, artifact, output::raw).await,
            to => {
                let to = place(artifact, to.unwrap_or_else(|| ".".into()));
                save(client, artifact, &to, self.force).await
            }
        }
    }
}

/// Downloads an artifact in pieces, and verifies its hash.
async fn fetch(client: &Client, artifact: &Artifact, mut take: impl FnMut(&[u8]) -> Done) -> Done {
    let (stage, output) = (&artifact.stage, &artifact.output);
    let mut pieces = client.download(artifact.run, stage, output).await?;
    let mut hash = Sha256::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        hash.update(&piece);
        take(&piece)?;
    }
    if hex::encode(hash.finalize()) == artifact.sha256 {
        return Ok(());
    }
    let problem = Problem::new(format!(
        "what came of {stage}.{output} is not what run {} kept: its hash differs",
        artifact.run
    ));
    Err(Failure::Refused(problem.help("fetch it again")))
}

/// The file that an artifact is saved in. Archives have their own extension.
fn place(artifact: &Artifact, to: PathBuf) -> PathBuf {
    let mut to = if to.is_dir() {
        to.join(format!("{}.{}", artifact.stage, artifact.output))
    } else {
        to
    };
    let is_archive = to.extension().is_some_and(|ending| ending == "tar");
    if artifact.kind == "folder" && !is_archive {
        to.as_mut_os_string().push(".tar");
    }
    to
}

/// Saves an artifact. The file appears only when it is complete.
async fn save(client: &Client, artifact: &Artifact, to: &Path, force: bool) -> Done {
    let taken = || {
        let problem = Problem::new(format!("{} already exists", to.display()));
        Failure::Usage(problem.help("`--force` overwrites it; `--to` gives another destination"))
    };
    if !force && to.exists() {
        return Err(taken());
    }
    let unwritable = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => taken(),
        _ => Failure::file(to, "written", &error),
    };
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(unwritable)?;
    fetch(client, artifact, |piece| {
        file.write_all(piece).map_err(unwritable)
    })
    .await?;
    let file = if force {
        file.persist(to)
    } else {
        file.persist_noclobber(to)
    };
    let file = file.map_err(|error| unwritable(error.error))?;
    let mode = match artifact.kind.as_str() {
        "executable" => 0o755,
        _ => 0o644,
    };
    open_to_others(&file, mode).map_err(unwritable)?;
    output::text(&format!(
        "{} ({})",
        to.display(),
        in_units(artifact.size_bytes)
    ))
}

/// A temporary file is private to its owner; the saved file gets the usual mode.
fn open_to_others(file: &std::fs::File, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}
