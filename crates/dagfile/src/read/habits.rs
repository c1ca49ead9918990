//! Values that other systems would expand, and this one passes on as they are: `$NAME` where no shell reads it, and
//! `{{ … }}` of Jinja. They are warnings: a program may expand them itself. A value of an expression is never one of
//! them, so `${{ "$HOME" }}` passes the text on without a warning.

use std::ops::Range;

use trainyard_core::expression::Template;
use trainyard_core::text::shortened;

use super::FileReader;
use super::shell::SHELLS;
use crate::diagnostic::DiagnosticCode as Code;
use crate::tree::Node;

/// The names at the beginning of `{{ … }}` in Airflow and Argo, and ours: what to write instead is known of them alone.
/// Programs have templates of their own, such as `docker ps --format '{{ .Names }}'`.
const ROOTS: [&str; 20] = [
    "cause",
    "conf",
    "dag",
    "dag_run",
    "data_interval_end",
    "data_interval_start",
    "ds",
    "ds_nodash",
    "execution_date",
    "inputs",
    "logical_date",
    "macros",
    "params",
    "run_id",
    "stages",
    "task_instance",
    "ti",
    "ts",
    "var",
    "workflow",
];

impl FileReader<'_> {
    /// Warns of a value in which a shell or Jinja would expand something. `what` names the place.
    pub(super) fn warn_of_habits(&mut self, what: &str, template: &Template, node: &Node) {
        for literal in template.literals() {
            let text = &template.source()[literal.clone()];
            if let Some(found) = variable(text) {
                let shown = shortened(&text[found.clone()]);
                let message = format!("`{shown}` in {what} is not expanded: no shell reads it");
                let span = moved(&found, literal.start);
                self.warn(node, &span, message, HELP_FOR_VARIABLES);
            }
            if let Some((found, root)) = jinja(text) {
                let span = moved(&found, literal.start);
                self.warn_of_jinja(what, node, &span, root);
            }
        }
    }

    /// Warns of `{{ … }}` in a script.
    pub(super) fn warn_of_jinja_in(&mut self, script: &str, node: &Node) {
        if let Some((found, root)) = jinja(script) {
            self.warn_of_jinja("`run`", node, &found, root);
        }
    }

    /// Warns of a first line that names another program than the shell that runs the script.
    pub(super) fn warn_of_shebang(&mut self, script: &str, node: &Node) {
        let Some(line) = script
            .strip_prefix("#!")
            .and_then(|rest| rest.lines().next())
        else {
            return;
        };
        let words = line.split_whitespace();
        let mut words = words.skip_while(|word| word.ends_with("/env") || *word == "-S");
        let path = words.next().unwrap_or_default();
        let program = path.rsplit('/').next().unwrap_or_default();
        if matches!(program, "" | "sh" | "dash" | "ash") {
            return;
        }
        let option = match program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') {
            "perl" | "ruby" | "node" | "Rscript" => "-e",
            "php" => "-r",
            _ => "-c",
        };
        let mut options: Vec<&str> = words.collect();
        if program == "bash" && options.is_empty() {
            options = vec!["-euo", "pipefail"];
        }
        let shell = [&[program], &*options, &[option]].concat().join(", ");
        let message = format!(
            "the image's `sh` runs this script, and its first line, `#!{}`, is only a comment",
            shortened(line)
        );
        let help = format!(
            "add `shell: [{}]` to the stage, or to `defaults`",
            shortened(&shell)
        );
        let first = 0.."#!".len() + line.len();
        self.warn(node, &first, message, &help);
    }

    fn warn_of_jinja(&mut self, what: &str, node: &Node, span: &Range<usize>, root: &str) {
        let message = format!("`{{{{ … }}}}` in {what} is not expanded: there is no Jinja here");
        let help = match root {
            "params" | "inputs" | "conf" | "dag_run" | "workflow" => {
                "parameters are variables of each stage, `$TRAINYARD_PARAM_NAME`, and `${{ params.NAME }}` in `env`"
            }
            "cause" | "stages" => {
                "write `${{ … }}` in `env`, and use the variable: scripts have no expressions"
            }
            "run_id" => "`$TRAINYARD_RUN_ID` in `run` has it",
            "dag" => "`$TRAINYARD_DAG` in `run` has it",
            "ti" | "task_instance" => {
                "values go from stage to stage by `outputs` and `inputs`; `$TRAINYARD_ATTEMPT` in `run` has the number"
            }
            "var" => "write it into `env`, or into a secret and `secrets: [NAME]`",
            _ => {
                "the time for which the run was started is `$TRAINYARD_LOGICAL_TIME` in `run`, and `${{ cause.logical_time }}` in `env`"
            }
        };
        self.warn(node, span, message, help);
    }

    fn warn(&mut self, node: &Node, part: &Range<usize>, message: String, help: &str) {
        let span = self.part(node, part);
        self.sink
            .warning(Code::InvalidValue, span, message)
            .help(help);
    }
}

const HELP_FOR_VARIABLES: &str = "in `run` the shell expands it, as in `export PATH=\"/opt/tool/bin:$PATH\"`; \
     `${{ \"$NAME\" }}` passes it on as it is";

/// Whether a command runs a shell, which expands its arguments.
pub(super) fn is_of_a_shell(words: &[Template]) -> bool {
    let program = words.first().map(Template::source).unwrap_or_default();
    SHELLS.contains(&program.rsplit('/').next().unwrap_or_default())
}

fn moved(range: &Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// The first `$NAME` or `${NAME}` that is a part of a path or of a list of paths: names in capitals, at the beginning
/// or after `:` or `=`, up to `/`, `:` or the end. Passwords have a `$` elsewhere.
fn variable(text: &str) -> Option<Range<usize>> {
    text.match_indices('$').map(|(at, _)| at).find_map(|at| {
        let begins = at == 0 || text[..at].ends_with([':', '=']);
        let rest = &text[at + 1..];
        let inner = rest.strip_prefix('{');
        let name = word(inner.unwrap_or(rest));
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && !name.contains(|c: char| c.is_ascii_lowercase());
        let after = &inner.unwrap_or(rest)[name.len()..];
        let after = match inner {
            Some(_) => after.strip_prefix('}')?,
            None => after,
        };
        let ends = after.is_empty() || after.starts_with(['/', ':']);
        (begins && is_name && ends).then_some(at..text.len() - after.len())
    })
}

/// The first `{{ … }}` that begins with a name of [`ROOTS`], and the name.
fn jinja(text: &str) -> Option<(Range<usize>, &str)> {
    text.match_indices("{{").find_map(|(at, _)| {
        let inner = &text[at + 2..];
        // Up to the next brace only, so that the time is proportional to the text's length.
        let close = inner.find(['{', '}', '\n'])?;
        let root = word(inner[..close].trim_start());
        let is_closed = inner[close..].starts_with("}}");
        (is_closed && ROOTS.contains(&root)).then_some((at..at + 2 + close + 2, root))
    })
}

/// The letters, digits and `_` that a text begins with.
fn word(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    &text[..text.find(|c| !is_part(c)).unwrap_or(text.len())]
}
