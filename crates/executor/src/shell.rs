//! How a script is run: by `sh -eu` of the image, with `pipefail` where that shell has it.

use trainyard_core::script;

/// `command` keeps a shell that lacks the option from exiting, and needs no process of its own. The script is an
/// argument: none of its lines is moved, and nothing in it is read twice. After `--`, a script that begins with a
/// dash is not an option.
const WITH_PIPEFAIL: &str =
    r#"command set -o pipefail 2>/dev/null && exec sh -euo pipefail -c -- "$1""#;

/// Printed for a script with a pipe, whose failures such a shell would hide.
const WITHOUT: &str = "echo 'trainyard: `sh` of this image has no `pipefail`: of the programs in a pipe, only the last \
                       one counts. `shell: [bash, -euo, pipefail, -c]` makes all of them count, where the image has \
                       bash' >&2\n";

/// The program and its arguments that run a script.
pub(crate) fn program(script: &str) -> Vec<String> {
    let without = script::pipe(script).map_or("", |_| WITHOUT);
    let start = format!("{WITH_PIPEFAIL}\n{without}exec sh -eu -c -- \"$1\"");
    ["sh", "-c", &start, "sh", script]
        .map(str::to_owned)
        .to_vec()
}
