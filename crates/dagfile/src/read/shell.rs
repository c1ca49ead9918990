//! `shell`, and pipes in scripts that have none.

use std::ops::Range;

use trainyard_core::script;
use trainyard_core::stage::ImageSource;
use trainyard_core::text::{listed, shortened};

use super::FileReader;
use super::fields::Fields;
use crate::diagnostic::DiagnosticCode as Code;
use crate::tree::Node;

/// Programs that take a script as an argument only after `-c`, and else as the name of a file.
pub(super) const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"];

impl FileReader<'_> {
    /// The program and its options; the script is their last argument. A wrong `shell` still counts as one: the faults
    /// that the script would have without it are not reported.
    pub(super) fn shell(&mut self, fields: &Fields<'_>) -> Option<Vec<String>> {
        Some(self.shell_words(fields.get("shell")?).unwrap_or_default())
    }

    fn shell_words(&mut self, node: &Node) -> Option<Vec<String>> {
        let items = self.list(node, "`shell`")?;
        let mut words = Vec::with_capacity(items.len());
        for item in items {
            words.push(self.plain(item, "`shell`")?.to_owned());
        }
        let Some(program) = words.first().filter(|program| !program.is_empty()) else {
            self.invalid(&node.span, "`shell` names no program".to_owned());
            return None;
        };
        let name = program.rsplit('/').next().unwrap_or(program);
        let takes_script =
            |word: &String| word.starts_with('-') && !word.starts_with("--") && word.contains('c');
        if SHELLS.contains(&name) && !words.iter().any(takes_script) {
            let message =
                format!("`{name}` takes the script for the name of a file: `-c` is missing");
            let kept = words.iter().filter(|word| !word.contains("{0}"));
            let kept: Vec<String> = kept.map(|word| shortened(word).to_string()).collect();
            self.sink
                .error(Code::InvalidValue, node.span.clone(), message)
                .help(format!("write `shell: [{}, -c]`", kept.join(", ")));
            return None;
        }
        Some(words)
    }

    /// Reports a `shell` of a stage without a script.
    pub(super) fn check_has_script(&mut self, what: &str, fields: &Fields<'_>) {
        if let Some(key) = fields.key("shell")
            && fields.lacks("run")
        {
            let message = format!("{what} has a `shell` and no `run`");
            self.sink
                .error(Code::Conflict, key.span.clone(), message)
                .help("`shell` says how `run` is run; a `command` has no shell");
        }
    }

    /// The line of a script with its first pipe, where the image's `sh` may have no `pipefail`.
    pub(super) fn pipe(
        &self,
        image: &ImageSource,
        node: &Node,
        script: &str,
    ) -> Option<Range<usize>> {
        let at = script::pipe(script).filter(|_| !has_pipefail(image))?;
        let start = script[..at].rfind('\n').map_or(0, |before| before + 1);
        let end = script[at..]
            .find('\n')
            .map_or(script.len(), |length| at + length);
        let line = &script[start..end];
        let start = end - line.trim_start().len();
        Some(self.part(node, &(start..start + line.trim().len())))
    }
}

/// Whether the `sh` of an image is one that has `pipefail`: busybox's, in images that are named for it.
fn has_pipefail(image: &ImageSource) -> bool {
    match image {
        ImageSource::Reference { image, .. } => {
            let name = image.source().rsplit('/').next().unwrap_or_default();
            ["alpine", "busybox"]
                .iter()
                .any(|known| name.contains(known))
        }
        ImageSource::Build(_) => false,
    }
}

impl FileReader<'_> {
    /// Warns of pipes in the scripts of stages, once for all.
    pub(super) fn warn_of_pipes(&mut self, pipes: &[(&str, Range<usize>)]) {
        let Some(((first, at), others)) = pipes.split_first() else {
            return;
        };
        let others = match listed(others.iter().map(|(name, _)| *name)) {
            names if names.is_empty() => names,
            names => format!("; so has `run` of {names}"),
        };
        let message = format!(
            "`run` of stage `{}` has a pipe, and the `sh` of its image may have no `pipefail`: a failure before the last `|` \
         would count for nothing{others}",
            shortened(first)
        );
        self.sink.warning(Code::InvalidValue, at.clone(), message).help(
        "add `shell: [bash, -euo, pipefail, -c]` to the stage, or to `defaults`, where images have bash; the `sh` of \
         Debian and Ubuntu has no `pipefail`, that of Alpine has",
    );
    }
}
