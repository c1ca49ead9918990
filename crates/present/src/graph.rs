//! Draws a DAG: as lanes beside a list of its stages, for Graphviz, for Mermaid.

use std::collections::BTreeMap;

use crate::lanes::{self, Row};

/// A stage in a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    pub name: String,
    /// The names of the stages that it needs.
    pub needs: Vec<String>,
    pub note: String,
}

/// The lanes beside a list of stages; `None` if there would be too many of them.
#[must_use]
pub fn rows(nodes: &[GraphNode]) -> Option<Vec<Row>> {
    let needs: Vec<Vec<usize>> = nodes.iter().map(|node| places(nodes, node)).collect();
    lanes::draw(&needs)
}

fn places(nodes: &[GraphNode], node: &GraphNode) -> Vec<usize> {
    node.needs
        .iter()
        .filter_map(|need| nodes.iter().position(|other| other.name == *need))
        .collect()
}

/// The picture for Graphviz.
pub fn dot(dag: &str, nodes: &[GraphNode]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n",
        quoted(dag)
    );
    for node in nodes {
        text.push_str(&format!("  {};\n", quoted(&node.name)));
    }
    for node in nodes {
        for need in &node.needs {
            text.push_str(&format!("  {} -> {};\n", quoted(need), quoted(&node.name)));
        }
    }
    text.push_str("}\n");
    text
}

/// The picture for Mermaid.
pub fn mermaid(nodes: &[GraphNode]) -> String {
    // Mermaid reserves words such as `end`, so stages are numbered.
    let ids: BTreeMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .map(|(place, node)| (node.name.as_str(), place))
        .collect();
    let mut text = "flowchart LR\n".to_owned();
    for (place, node) in nodes.iter().enumerate() {
        text.push_str(&format!("  s{place}[\"{}\"]\n", node.name));
    }
    for (place, node) in nodes.iter().enumerate() {
        for need in node.needs.iter().filter_map(|need| ids.get(need.as_str())) {
            text.push_str(&format!("  s{need} --> s{place}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<GraphNode> {
        let node = |name: &str, needs: &[&str], note: &str| GraphNode {
            name: name.to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            note: note.to_owned(),
        };
        vec![
            node("split", &[], "alpine:3"),
            node("left", &["split"], "alpine:3"),
            node("right", &["split"], "alpine:3"),
            node("join", &["left", "right"], "built from ."),
        ]
    }

    #[test]
    fn graphviz_and_mermaid_get_every_edge() {
        insta::assert_snapshot!(format!(
            "{}\n{}",
            dot("a \"b\"", &nodes()),
            mermaid(&nodes())
        ));
    }
}
