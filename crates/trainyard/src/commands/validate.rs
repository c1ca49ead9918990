//! `trainyard validate`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use trainyard_daemon::exec::read_dag_file;

use crate::failure::{Done, Failure};
use crate::output::{self, Format, OutputArgs};
use crate::view::quantity::count;

/// Check DAG files, and show all their faults
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// DAG files; folders with DAG files; or repositories, of which `dags/` is looked at
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

impl Validate {
    pub(crate) fn call(self) -> Done {
        let mut reports = Vec::new();
        let mut wrong = 0_u64;
        for file in files(&self.paths)? {
            let bytes =
                read_dag_file(&file).map_err(|error| Failure::file(&file, "read", &error))?;
            let name = file.display().to_string();
            let parsed = trainyard_dagfile::parse_bytes(&name, &bytes);
            let diagnostics = &parsed.diagnostics;
            if parsed.dag.is_none() {
                wrong += 1;
            }
            match self.output.output {
                Format::Json => reports.push(json!({
                    "file": name,
                    "dag": parsed.dag.as_ref().map(|dag| dag.name().as_str()),
                    "valid": parsed.dag.is_some(),
                    "diagnostics": trainyard_dagfile::to_json(&name, diagnostics),
                })),
                Format::Table => {
                    if !diagnostics.is_empty() {
                        let text = String::from_utf8_lossy(&bytes);
                        let colours = output::complains_in_colours();
                        let shown = trainyard_dagfile::render(&name, &text, diagnostics, colours);
                        output::complain(shown.trim_end());
                    }
                    if let Some(dag) = &parsed.dag {
                        let stages = count(dag.stages().len() as u64, "stage");
                        output::text(&format!("{name}: DAG {}, {stages}", dag.name()))?;
                    }
                }
            }
        }
        if self.output.output == Format::Json {
            output::json(&json!({ "items": reports }))?;
        } else if wrong > 0 {
            output::complain(&format!("{} with faults", count(wrong, "file")));
        }
        if wrong > 0 {
            Err(Failure::Faults)
        } else {
            Ok(())
        }
    }
}

/// The files that paths mean.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let dags = path.join("dags");
            let folder = if dags.is_dir() { &dags } else { path };
            let found = dag_files(folder)?;
            if found.is_empty() {
                let folder = folder.display();
                return Err(Failure::usage(format!(
                    "{folder} has no DAG files (*.yaml)"
                )));
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn dag_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| Failure::file(folder, "read", &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_yaml = path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        if is_yaml && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
