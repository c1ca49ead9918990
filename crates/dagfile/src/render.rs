//! Diagnostics for people: the file, the line, the fault underlined, and what to do.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, DiagnosticCode, Severity};

/// The longest line that is shown; of a longer one, the part around the fault.
const WIDEST: usize = 160;

/// How much of a line is shown on either side of a fault at most, in bytes.
const AROUND: usize = 2 * WIDEST;

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
        // The renderer walks all text that it is given, for each diagnostic: so it gets the one line.
        let line = line(text, &span);
        let is_whole = line.start == 0 || text[..line.start].ends_with('\n');
        let snippet = Snippet::source(&text[line.clone()])
            .line_start(diagnostic.line)
            .annotation(
                AnnotationKind::Primary.span(span.start - line.start..span.end - line.start),
            );
        let title = level
            .primary_title(diagnostic.message.as_str())
            .id(diagnostic.code.as_str());
        let mut group = if diagnostic.code == DiagnosticCode::Unreadable {
            title.element(Origin::path(file_name))
        } else if is_whole {
            title.element(snippet.path(file_name))
        } else {
            // Columns are counted from the beginning of the line, which is not given.
            let origin = Origin::path(file_name).line(diagnostic.line);
            title
                .element(origin.char_column(diagnostic.column))
                .element(snippet)
        };
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        rendered.push_str(&renderer.render(&[group]));
        rendered.push_str("\n\n");
    }
    rendered
}

/// Of a fault over several lines, its first line; of a very long one, its beginning.
fn shown(text: &str, diagnostic: &Diagnostic) -> Range<usize> {
    let span = diagnostic.span.clone();
    let end = text[span.clone()]
        .find('\n')
        .map_or(span.end, |line| span.start + line);
    span.start..text.floor_char_boundary(end.min(span.start + AROUND))
}

/// The line around a span, or what of it is near.
fn line(text: &str, span: &Range<usize>) -> Range<usize> {
    let from = text.floor_char_boundary(span.start.saturating_sub(AROUND));
    let start = text[from..span.start]
        .rfind('\n')
        .map_or(from, |at| from + at + 1);
    let to = text.ceil_char_boundary((span.end + AROUND).min(text.len()));
    let end = text[span.end..to].find('\n').map_or(to, |at| span.end + at);
    start..end
}
