//! Diagnostics for people: the file, the line, the fault underlined, and what to do.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity};

/// The longest line that is shown; of a longer one, the part around the fault.
const WIDEST: usize = 160;

/// Renders diagnostics of a file, one after the other.
#[must_use]
pub fn render(file_name: &str, text: &str, diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let renderer = renderer.term_width(WIDEST);
    let mut rendered = String::new();
    for diagnostic in diagnostics {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let span = shown(text, diagnostic);
        let snippet = Snippet::source(text)
            .path(file_name)
            .annotation(AnnotationKind::Primary.span(span));
        let mut group = level
            .primary_title(diagnostic.message.as_str())
            .id(diagnostic.code.as_str())
            .element(snippet);
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        rendered.push_str(&renderer.render(&[group]));
        rendered.push_str("\n\n");
    }
    rendered
}

/// Of a fault over several lines, its first line.
fn shown(text: &str, diagnostic: &Diagnostic) -> std::ops::Range<usize> {
    let span = diagnostic.span.clone();
    match text[span.clone()].find('\n') {
        Some(line) => span.start..span.start + line,
        None => span,
    }
}
