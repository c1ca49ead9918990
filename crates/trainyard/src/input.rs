//! What is read from standard input: things that must not stand on a command line, where every user
//! of the machine could read them.

use std::io::{IsTerminal, Read};

use secrecy::SecretString;

use crate::failure::{Failure, Problem};

/// Reads something secret: from standard input, or from the terminal without showing it.
///
/// One line break at the end is not part of it.
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
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        let problem = Problem::new(format!("{what} is empty"));
        return Err(Failure::Usage(problem.help("give it on standard input")));
    }
    Ok(SecretString::from(text))
}
