//! `trainyard graph`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use trainyard_core::dag::Dag;
use trainyard_core::stage::{ImageSource, Stage};
use trainyard_daemon::exec::read_dag_file;

use crate::failure::{Done, Failure};
use crate::output;
use crate::view::graph;
use trainyard_present::graph::{GraphNode, dot, mermaid};

/// Draw the stages of a DAG file and their dependencies
#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The DAG file
    file: PathBuf,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Picture,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Picture {
    /// A terminal
    #[default]
    Text,
    /// Graphviz
    Dot,
    /// Mermaid, as GitHub and GitLab show it
    Mermaid,
    /// Programs
    Json,
}

impl Graph {
    pub(crate) fn call(self) -> Done {
        let name = self.file.display().to_string();
        let bytes =
            read_dag_file(&self.file).map_err(|error| Failure::file(&self.file, "read", &error))?;
        let parsed = trainyard_dagfile::parse_bytes(&name, &bytes);
        let Some(dag) = parsed.dag else {
            let text = String::from_utf8_lossy(&bytes);
            let colours = output::complains_in_colours();
            let shown = trainyard_dagfile::render(&name, &text, &parsed.diagnostics, colours);
            output::complain(shown.trim_end());
            return Err(Failure::Faults);
        };
        let nodes: Vec<GraphNode> = dag.stages().iter().map(node).collect();
        match self.format {
            Picture::Text => output::text(&graph::draw(&nodes)),
            Picture::Dot => output::text(&dot(dag.name().as_str(), &nodes)),
            Picture::Mermaid => output::text(&mermaid(&nodes)),
            Picture::Json => output::json(&document(&dag, &nodes)),
        }
    }
}

fn node(stage: &Stage) -> GraphNode {
    let image = match &stage.program().image {
        ImageSource::Reference { image, .. } => image.source().to_owned(),
        ImageSource::Build(build) => format!("built from {}", build.context),
    };
    let condition = stage.condition.as_ref();
    let condition = condition.map(|condition| format!(", if {}", condition.source()));
    let gate = if stage.program().gate.is_empty() {
        ""
    } else {
        ", gate"
    };
    GraphNode {
        name: stage.name.to_string(),
        needs: stage.needs.iter().map(ToString::to_string).collect(),
        note: format!("{image}{}{gate}", condition.unwrap_or_default()),
    }
}

fn document(dag: &Dag, nodes: &[GraphNode]) -> serde_json::Value {
    let stages: Vec<_> = nodes
        .iter()
        .map(|node| json!({ "name": node.name, "needs": node.needs }))
        .collect();
    json!({ "dag": dag.name().as_str(), "stages": stages })
}
