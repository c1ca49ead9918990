//! Reads secrets and keys from standard input and from files, and answers from the terminal. Secrets are never
//! command line arguments, since every user of the machine can read these.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use secrecy::SecretString;
use trainyard_api::History;

use crate::failure::{Failure, Problem};
use crate::view::{self, plain};

/// The largest key file, in bytes.
const FILE_BYTES: u64 = 64 << 10;

/// Reads a small file, such as a key.
pub(crate) fn small_file(path: &Path) -> Result<String, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("{} cannot be read: {why}", path.display()))
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text);
    let count = read.map_err(|error| unreadable(&error))?;
    if count as u64 > FILE_BYTES {
        return Err(unreadable(&format!(
            "it is larger than {} KiB",
            FILE_BYTES >> 10
        )));
    }
    Ok(text)
}

/// Reads a secret: from standard input, or from the terminal without showing it.
///
/// Of a value of one line, the line break at its end is not part of it, as `echo` writes one. One of several lines is
/// taken as it is: a private key without its last line break is refused by OpenSSH.
pub(crate) fn secret(what: &str) -> Result<SecretString, Failure> {
    let unreadable = |error| Failure::usage(format!("{what} cannot be read: {error}"));
    let mut text = if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal
            .write_str(&format!("{what}: "))
            .map_err(unreadable)?;
        terminal.read_secure_line().map_err(unreadable)?
    } else {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        text
    };
    if let Some(line) = text.strip_suffix('\n').filter(|line| !line.contains('\n')) {
        text.truncate(line.trim_end_matches('\r').len());
    }
    if text.is_empty() {
        let problem = Problem::new(format!("{what} is empty"));
        return Err(Failure::Usage(problem.help("give it on standard input")));
    }
    Ok(SecretString::from(text))
}

/// Asks the user at the terminal to confirm an action that cannot be undone. Scripts need `--yes`.
///
/// `action` names the action, `history` is deleted along with it. The daemon refuses the action while runs have not
/// ended: `cancel` is the command that cancels them.
pub(crate) fn agree(
    yes: bool,
    action: &str,
    history: &History,
    cancel: &str,
) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let action = format!("this {action}: {}", view::repo::history(history));
    let is_refused = history.unfinished_runs > 0;
    if is_refused || !std::io::stdin().is_terminal() {
        let problem = Problem::new(format!("{action}; that cannot be undone"));
        let help = match is_refused {
            true => {
                format!("wait until its runs have ended, or cancel them with `{cancel}`; then ")
            }
            false => String::new(),
        };
        return Err(Failure::Usage(
            problem.help(format!("{help}--yes does it without asking")),
        ));
    }
    let terminal = console::Term::stderr();
    let unreadable = |error| Failure::usage(format!("the answer cannot be read: {error}"));
    terminal
        .write_line(&plain(&action))
        .and_then(|()| terminal.write_str("It cannot be undone. Continue? [y/N] "))
        .map_err(unreadable)?;
    let answer = terminal.read_line().map_err(unreadable)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::usage("nothing was removed")),
    }
}
