//! The text as a tree in which every key and value knows its bytes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use trainyard_core::text::shortened;

use crate::diagnostic::{DiagnosticCode, Sink};
use crate::limits::{DEEPEST, FILE_LARGEST, NODES_AT_MOST, TEXT_AT_MOST};

/// A value and where it is. Copies share the value: an alias costs what its name costs.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, with whether it was written without quotes.
    Scalar {
        text: Rc<str>,
        plain: bool,
    },
    List(Rc<[Node]>),
    /// Keys and values in the order of the text; keys may stand twice.
    Map(Rc<[(Key, Node)]>),
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: Rc<str>,
    pub(crate) span: Range<usize>,
}

impl Node {
    /// The kind of the value, for messages: `a list`.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "empty",
            Value::Scalar { text, plain: true } if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar { text, plain: true } if matches!(&**text, "true" | "false") => {
                "a boolean"
            }
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
        size: Size::default(),
    };
    loader.document()
}

/// How far before a value the search for its tag goes, in bytes.
const TAG_LONGEST: usize = 100;

struct Loader<'a, 's, 't> {
    text: &'a str,
    sink: &'s mut Sink<'t>,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, Size)>,
    /// The size of all that was read so far.
    size: Size,
}

/// How much there is, with aliases in place.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
    /// How deep it is nested; 0 for a text.
    depth: usize,
}

/// Reading cannot go on; the reason has been reported.
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
                    Ok((node, _)) => root = Some(node),
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
        } else {
            taken.maybe_help(syntax_help(line, after, problem));
        }
    }

    /// The parser refuses a NUL in the file, and makes one of an escape within quotes.
    fn say_nul(&mut self, span: &Range<usize>) {
        let message = "this text has a NUL character in it, `\\0`";
        self.sink
            .error(DiagnosticCode::InvalidValue, span.clone(), message)
            .help("take it out: Postgres cannot keep it, and no argument or environment variable of a program can hold it");
    }

    fn count(&mut self, more: Size, span: &Range<usize>) -> Result<(), Stop> {
        self.size.nodes += more.nodes;
        self.size.text += more.text;
        let message = if self.size.nodes > NODES_AT_MOST {
            format!("the file has more than {NODES_AT_MOST} values, aliases counted")
        } else if self.size.text > TEXT_AT_MOST {
            format!("the file has more than {TEXT_AT_MOST} bytes of text, aliases counted")
        } else {
            return Ok(());
        };
        self.sink
            .error(DiagnosticCode::TooLarge, span.clone(), message);
        Err(Stop)
    }

    fn check_depth(&mut self, depth: usize, span: &Range<usize>) -> Result<(), Stop> {
        if depth <= DEEPEST {
            return Ok(());
        }
        let message = format!("lists and maps are nested deeper than {DEEPEST}");
        self.sink
            .error(DiagnosticCode::TooLarge, span.clone(), message);
        Err(Stop)
    }

    /// Reports a tag. A tag changes how a value is read, which no key here needs; and an expression that begins with
    /// `!` is a tag by accident, and would lose the `!`.
    fn say_tag(&mut self, tag: &Tag, range: &Range<usize>) {
        // The tag stands before the value. No real tag is longer than this search goes back.
        let near = self
            .text
            .ceil_char_boundary(range.start.saturating_sub(TAG_LONGEST));
        let start = self.text[near..range.start]
            .rfind(" !")
            .map_or(range.start, |at| near + at + 1);
        let shown = format!("{}{}", tag.original_handle(), tag.suffix());
        let message = format!(
            "`{}` is a tag of YAML, and tags are not supported",
            shortened(&shown)
        );
        self.sink
            .error(DiagnosticCode::InvalidValue, start..range.end, message)
            .help("a value that begins with `!` goes into quotes, as in `if: \"!params.verbose\"`");
    }

    /// Reads a node at this depth. Returns it with the depth of its own nesting.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<(Node, usize), Stop> {
        let mut range = bytes(self.text, &span);
        self.check_depth(depth, &range)?;
        let before = self.size;
        let one = Size {
            nodes: 1,
            ..Size::default()
        };
        self.count(one, &range)?;
        let anchor = event.anchor_id();
        if let Event::Scalar(.., Some(tag))
        | Event::SequenceStart(.., Some(tag))
        | Event::MappingStart(.., Some(tag)) = &event
        {
            self.say_tag(tag, &range);
        }
        let mut below = 0;
        let value = match event {
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    let message = "this alias refers to the value that it is in";
                    self.sink.error(DiagnosticCode::Syntax, range, message);
                    return Err(Stop);
                };
                self.count(size, &range)?;
                self.check_depth(depth + size.depth, &range)?;
                let value = node.value;
                return Ok((Node { span: range, value }, size.depth));
            }
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                if text.contains('\0') {
                    self.say_nul(&range);
                }
                let size = Size {
                    text: text.len(),
                    ..Size::default()
                };
                self.count(size, &range)?;
                if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into(),
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
                        (event, span) => {
                            let (item, deep) = self.node(event, span, depth + 1)?;
                            below = below.max(deep + 1);
                            items.push(item);
                        }
                    }
                }
                if let Some(last) = items.last() {
                    range.end = range.end.max(last.span.end);
                }
                Value::List(items.into())
            }
            Event::MappingStart(..) => {
                let fields = self.fields(&mut range, depth, &mut below)?;
                Value::Map(fields.into())
            }
            _ => return Err(Stop),
        };
        let node = Node { span: range, value };
        if let Some(id) = anchor.filter(|id| *id > 0) {
            let size = Size {
                nodes: self.size.nodes - before.nodes,
                text: self.size.text - before.text,
                depth: below,
            };
            self.anchors.insert(id, (node.clone(), size));
        }
        Ok((node, below))
    }

    fn fields(
        &mut self,
        range: &mut Range<usize>,
        depth: usize,
        below: &mut usize,
    ) -> Result<Vec<(Key, Node)>, Stop> {
        let mut fields = Vec::new();
        let mut merged = None;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                range.end = range.end.max(bytes(self.text, &span).end);
                break;
            }
            let (key, of_key) = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let (value, of_value) = self.node(event, span, depth + 1)?;
            *below = (*below).max(of_key + 1).max(of_value + 1);
            range.end = range.end.max(value.span.end);
            match key.value {
                Value::Scalar { text, plain: true } if &*text == "<<" => {
                    if merged.is_some() {
                        self.sink
                            .error(
                                DiagnosticCode::DuplicateKey,
                                key.span,
                                "`<<` stands here twice",
                            )
                            .help("merge several maps by a list: `<<: [*one, *other]`");
                    } else {
                        merged = Some(value);
                    }
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
                    let message = format!("a key must be a text, not {}", key.kind());
                    self.sink
                        .error(DiagnosticCode::WrongType, key.span, message);
                }
            }
        }
        if let Some(merged) = merged {
            self.merge(&merged, &mut fields);
        }
        Ok(fields)
    }

    /// Adds the fields of a merge key's maps, but for those that the map has itself; of two maps, the first
    /// counts. They were counted where the alias stands, so this costs nothing more.
    fn merge(&mut self, merged: &Node, fields: &mut Vec<(Key, Node)>) {
        let maps = match &merged.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(merged),
        };
        let mut known: HashSet<Rc<str>> =
            fields.iter().map(|(key, _)| Rc::clone(&key.text)).collect();
        for map in maps {
            let Value::Map(more) = &map.value else {
                self.sink.has_wrong_merge = true;
                let message = format!("`<<` takes a map, or a list of maps, not {}", map.kind());
                self.sink
                    .error(DiagnosticCode::WrongType, map.span.clone(), message)
                    .help("name a map by `&name` first, and write `<<: *name`");
                continue;
            };
            // A key that occurs twice in one map stays twice, so that it is reported.
            let new: Vec<_> = more
                .iter()
                .filter(|(key, _)| !known.contains(&key.text))
                .cloned()
                .collect();
            known.extend(new.iter().map(|(key, _)| Rc::clone(&key.text)));
            fields.extend(new);
        }
    }
}

/// The meaning of a line that is not YAML, where that is known.
fn syntax_help(before: &str, after: &str, problem: &str) -> Option<String> {
    if problem.contains("mapping values are not allowed") {
        let key = before.trim_start().trim_start_matches("- ");
        let (key, value) = key.split_once(": ")?;
        return Some(match (key, value.trim_start().chars().next()) {
            ("run", _) => {
                "a text with `: ` in it goes into quotes, or on lines of its own below `run: |`"
                    .to_owned()
            }
            _ => format!(
                "a text with `: ` in it goes into quotes, as in `{}: \"…\"`",
                shortened(key)
            ),
        });
    }
    let mark = after
        .chars()
        .next()
        .filter(|mark| "*&@`%".contains(*mark))?;
    Some(format!(
        "a value that begins with `{mark}` goes into quotes"
    ))
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
