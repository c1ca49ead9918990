//! The text as a tree in which every key and value knows its bytes.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::diagnostic::{DiagnosticCode, Sink};
use crate::limits::{DEEPEST, FILE_LARGEST, NODES_AT_MOST};

/// A value and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, with whether it was written without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the text; keys may stand twice.
    Map(Vec<(Key, Node)>),
}

/// A key and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

impl Node {
    /// What it is, for messages: `a list`.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "empty",
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads the one document of a file.
pub(crate) fn load(text: &str, sink: &mut Sink<'_>) -> Option<Node> {
    if text.len() > FILE_LARGEST {
        let message = format!(
            "a DAG file may have at most {FILE_LARGEST} bytes, this one has {}",
            text.len()
        );
        sink.error(DiagnosticCode::TooLarge, 0..0, message);
        return None;
    }
    let mut loader = Loader {
        text,
        sink,
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    loader.document()
}

struct Loader<'a, 's, 't> {
    text: &'a str,
    sink: &'s mut Sink<'t>,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

/// Reading cannot go on; why has been said.
struct Stop;

impl<'a> Loader<'a, '_, '_> {
    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        loop {
            match self.next() {
                Ok((Event::StreamEnd, _)) => break,
                Ok((Event::DocumentStart(..), span)) if root.is_some() => {
                    let span = bytes(self.text, &span);
                    self.sink
                        .error(
                            DiagnosticCode::Syntax,
                            span,
                            "a DAG file holds one document",
                        )
                        .help("put each DAG into a file of its own");
                    break;
                }
                Ok((event, span)) if event.is_node() => match self.node(event, span, 0) {
                    Ok(node) => root = Some(node),
                    Err(Stop) => return None,
                },
                Ok(_) => {}
                Err(Stop) => return None,
            }
        }
        if root.is_none() {
            self.sink
                .error(DiagnosticCode::Missing, 0..0, "the file is empty")
                .help("the smallest DAG is `stages: {hello: {image: alpine:3, run: echo hi}}`");
        }
        root
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or(self.text.len());
                self.say_syntax(at.min(self.text.len()), &error.kind().to_string());
                Err(Stop)
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn say_syntax(&mut self, mut at: usize, problem: &str) {
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let (before, after) = self.text.split_at(at);
        let line = before.rsplit('\n').next().unwrap_or("");
        let rest = after.find('\n').unwrap_or(after.len()).min(40);
        let has_tab = line.contains('\t') || after.starts_with('\t');
        let message = format!("this is not YAML: {problem}");
        let taken = self
            .sink
            .error(DiagnosticCode::Syntax, at..at + rest, message);
        if has_tab {
            taken.help("YAML is indented with spaces; there is a tab in this line");
        }
    }

    /// The parser refuses a NUL in the file, and makes one of an escape within quotes.
    fn say_nul(&mut self, span: &Range<usize>) {
        let message = "this text has a NUL character in it, `\\0`";
        self.sink
            .error(DiagnosticCode::InvalidValue, span.clone(), message)
            .help("take it out: Postgres cannot keep it, and no argument or environment variable of a program can hold it");
    }

    fn count(&mut self, more: usize, span: &Range<usize>) -> Result<(), Stop> {
        self.nodes += more;
        if self.nodes <= NODES_AT_MOST {
            return Ok(());
        }
        let message = format!("the file has more than {NODES_AT_MOST} values, aliases counted");
        self.sink
            .error(DiagnosticCode::TooLarge, span.clone(), message);
        Err(Stop)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut range = bytes(self.text, &span);
        if depth > DEEPEST {
            let message = format!("lists and maps are nested deeper than {DEEPEST}");
            self.sink.error(DiagnosticCode::TooLarge, range, message);
            return Err(Stop);
        }
        self.count(1, &range)?;
        let before = self.nodes;
        let anchor = event.anchor_id();
        let value = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    let message = "this alias refers to the value that it is in";
                    self.sink.error(DiagnosticCode::Syntax, range, message);
                    return Err(Stop);
                };
                self.count(size, &range)?;
                return Ok(Node {
                    span: range,
                    value: node.value,
                });
            }
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                if text.contains('\0') {
                    self.say_nul(&range);
                }
                if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into_owned(),
                        plain,
                    }
                }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, end) => {
                            range.end = range.end.max(bytes(self.text, &end).end);
                            break;
                        }
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                if let Some(last) = items.last() {
                    range.end = range.end.max(last.span.end);
                }
                Value::List(items)
            }
            Event::MappingStart(..) => {
                let fields = self.fields(&mut range, depth)?;
                Value::Map(fields)
            }
            _ => return Err(Stop),
        };
        let node = Node { span: range, value };
        if let Some(id) = anchor.filter(|id| *id > 0) {
            self.anchors.insert(id, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn fields(&mut self, range: &mut Range<usize>, depth: usize) -> Result<Vec<(Key, Node)>, Stop> {
        let mut fields = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                range.end = range.end.max(bytes(self.text, &span).end);
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            range.end = range.end.max(value.span.end);
            match key.value {
                Value::Scalar { text, .. } if text == "<<" => {
                    self.sink
                        .error(
                            DiagnosticCode::UnknownKey,
                            key.span,
                            "merge keys are not supported",
                        )
                        .help("write the fields out, or use `defaults`");
                }
                Value::Scalar { text, .. } => {
                    fields.push((
                        Key {
                            text,
                            span: key.span,
                        },
                        value,
                    ));
                }
                Value::Null | Value::List(_) | Value::Map(_) => {
                    let message = format!("a key has to be a text, not {}", key.kind());
                    self.sink
                        .error(DiagnosticCode::WrongType, key.span, message);
                }
            }
        }
        Ok(fields)
    }
}

/// The bytes of a span; block values lose the white space that follows them.
fn bytes(text: &str, span: &Span) -> Range<usize> {
    let range = span.byte_range().unwrap_or(0..0);
    let (start, end) = (range.start.min(text.len()), range.end.min(text.len()));
    let trimmed = text
        .get(start..end)
        .map_or(end, |slice| start + slice.trim_end().len());
    start..trimmed.max(start)
}
