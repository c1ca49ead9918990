//! Captures the daemon's log for tests.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// Captures all lines of this thread at the log's default level while it is in scope.
pub(crate) struct Heard {
    lines: Arc<Mutex<Vec<Line>>>,
    _guard: DefaultGuard,
}

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Since the capture began.
    pub(crate) after: Duration,
    /// Level, message and fields.
    pub(crate) text: String,
}

impl Heard {
    pub(crate) fn from_now() -> Self {
        let lines = Arc::<Mutex<Vec<Line>>>::default();
        let listener = Listener {
            begun: Instant::now(),
            lines: lines.clone(),
        };
        Self {
            lines,
            _guard: tracing::subscriber::set_default(listener),
        }
    }

    /// The lines with these words, in order.
    pub(crate) fn with(&self, words: &str) -> Vec<Line> {
        let lines = self.lines.lock().unwrap();
        let with_words = lines.iter().filter(|line| line.text.contains(words));
        with_words.cloned().collect()
    }

    /// Everything.
    pub(crate) fn all(&self) -> Vec<Line> {
        self.with("")
    }
}

struct Listener {
    begun: Instant,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("trainyard") && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut Fields(&mut text));
        let after = self.begun.elapsed();
        self.lines.lock().unwrap().push(Line { after, text });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}
