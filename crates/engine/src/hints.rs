//! What a stage's log says beside the program's own words where it ended in a way that many people meet and few know.

/// So much of a log's end counts as last words, in bytes: some stacks of calls are printed behind the cause.
const LAST_WORDS: usize = 4096;

/// EPERM in the words of C libraries, and of Go.
const REFUSED: &[u8] = b"peration not permitted";

/// Whether the end of a log tells of a refused operation.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Bytes printed since the last one.
    since: Option<usize>,
}

impl Refusals {
    /// Looks through a piece of a log.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        let found = piece
            .windows(REFUSED.len())
            .rposition(|words| words == REFUSED);
        self.since = match found {
            Some(place) => Some(piece.len() - place),
            None => self.since.map(|since| since.saturating_add(piece.len())),
        };
    }

    pub(crate) fn are_last(&self) -> bool {
        self.since.is_some_and(|since| since <= LAST_WORDS)
    }
}

/// What to say of a program that ended with this exit code.
pub(crate) fn hint(code: i32, refused: bool) -> Option<&'static str> {
    match code {
        0 => None,
        _ if refused => Some(
            "an operation was refused. As root, a stage has the capabilities of docker.capabilities only (usually CHOWN, \
             DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID), and it never gains privileges; the operator of the daemon \
             can set others",
        ),
        126 => Some(
            "exit code 126 is a shell's for a file that it cannot execute: `git update-index --chmod=+x FILE` makes it \
             executable, unless it was built for another architecture",
        ),
        127 => Some(
            "exit code 127 is a shell's for a program that it did not find: the image lacks the program or the \
             interpreter in its first line. A script that was saved with CRLF line ends asks for an interpreter whose \
             name ends with a carriage return",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_where_it_is_among_the_last_words() {
        let mut refusals = Refusals::default();
        assert!(!refusals.are_last());
        refusals.push(b"chown: x: Operation not permitted\n");
        assert!(refusals.are_last());
        refusals.push(b"exit\n");
        assert!(refusals.are_last());
        refusals.push(&[b'x'; LAST_WORDS]);
        assert!(!refusals.are_last());
    }

    #[test]
    fn a_good_end_needs_no_hint() {
        assert_eq!(hint(0, true), None);
        assert_eq!(hint(1, false), None);
        assert!(hint(2, true).unwrap().contains("docker.capabilities"));
        assert!(hint(127, false).unwrap().contains("CRLF"));
    }
}
