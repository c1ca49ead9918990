//! Hints in a stage's log for ends that are common and whose cause few people know.

/// How many bytes of a log's end are searched: some stack traces are printed after the cause.
const LAST_WORDS: usize = 4096;

/// EPERM in the messages of C libraries, and of Go.
const REFUSED: &[u8] = b"peration not permitted";

/// Whether the end of a log shows a refused operation.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Bytes printed since the last one.
    since: Option<usize>,
}

impl Refusals {
    /// Searches a piece of a log.
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

/// The hint for a program that ended with this exit code.
pub(crate) fn hint(code: i32, refused: bool) -> Option<&'static str> {
    match code {
        0 => None,
        _ if refused => Some(
            "the kernel refused an operation. A stage that runs as root has only the capabilities of \
             `docker.capabilities` (usually CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID); the operator can add \
             others in the daemon's configuration",
        ),
        126 => Some(
            "exit code 126 means that a shell found a file and could not execute it: `git update-index --chmod=+x FILE` \
             makes it executable, unless it was built for another architecture",
        ),
        127 => Some(
            "exit code 127 means that a shell did not find a program: the image lacks the program, or the interpreter \
             that its first line names. A script with CRLF line ends names one that ends with a carriage return",
        ),
        141 => Some(
            "exit code 141 means that a program was ended by SIGPIPE: the next program in its pipe stopped reading, as \
             `head` does once it has enough. `sed -n 1,10p` instead of `head` reads to the end; `|| true` after the pipe \
             ignores its exit code",
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
        assert!(hint(141, false).unwrap().contains("SIGPIPE"));
        assert!(hint(127, false).unwrap().contains("CRLF"));
    }
}
