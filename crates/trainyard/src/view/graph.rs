//! Draws a DAG for a terminal.

use owo_colors::OwoColorize;
use trainyard_present::graph::{GraphNode, rows};

use crate::view::plain;

/// The picture for a terminal: lines, or words if there would be too many lines.
pub(crate) fn draw(nodes: &[GraphNode]) -> String {
    let width = nodes.iter().map(|node| node.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    let Some(rows) = rows(nodes) else {
        for node in nodes {
            let after = match node.needs.as_slice() {
                [] => String::new(),
                needs => format!("after {}", needs.join(", ")),
            };
            let line = format!("● {:width$}  {}", plain(&node.name), plain(&after));
            text.push_str(&format!("{}\n", line.trim_end()));
        }
        return text;
    };
    let lines = rows.iter().map(|row| row.lines.chars().count()).max();
    let lines = lines.unwrap_or_default();
    for row in rows {
        let Some(stage) = row.stage else {
            text.push_str(&format!("{}\n", row.lines));
            continue;
        };
        let node = &nodes[stage];
        // Padded before it is coloured, since colour codes count as characters.
        let name = format!("{:width$}", plain(&node.name));
        let note = plain(&node.note);
        text.push_str(&format!("{:lines$} {}", row.lines, name.bold()));
        if !note.is_empty() {
            text.push_str(&format!("  {}", note.bright_black()));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

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
    fn names_are_in_a_column_next_to_the_lines() {
        insta::assert_snapshot!(strip_str(&draw(&nodes())).to_string());
    }

    #[test]
    fn very_many_lanes_become_words() {
        let mut nodes: Vec<GraphNode> = (0..30)
            .map(|n| GraphNode {
                name: format!("s{n}"),
                needs: Vec::new(),
                note: String::new(),
            })
            .collect();
        nodes.push(GraphNode {
            name: "all".to_owned(),
            needs: nodes.iter().map(|node| node.name.clone()).collect(),
            note: String::new(),
        });
        let text = draw(&nodes);
        assert!(text.starts_with("● s0\n"), "{text}");
        assert!(text.contains("● all  after s0, s1,"), "{text}");
    }
}
