//! The line that the program writes and the library reads, compiled into both: no `std` here.
//!
//! One line of fixed length, so that the line of the end replaces that of the start without any more room on a disk
//! that may be full by then:
//!
//! ```text
//! trainyard-init 2 begun code=000 signal=00 asked=0 oom=0 errno=000 nonce=00000000000000000000000000000000········
//! ```
//!
//! `asked`: the program was sent SIGTERM, SIGINT or SIGQUIT from outside of its container. `oom`: the kernel
//! killed a process of the container for its use of memory. `errno`: why the program was never run (`never`,
//! `unrun`).
//! `nonce`: the proof in the line, the end half of the container's
//! nonce; zeros in `begun`, which the program can read.

/// Length of a line, its newline included, in bytes.
pub(crate) const LINE: usize = 112;

/// Length of each half of a nonce, in hexadecimal digits.
pub(crate) const HALF: usize = 32;

/// The byte in front of a line in the log: no program prints it by accident.
pub(crate) const MARK: u8 = 0x1e;

/// Behind a line that is still open, so that Docker passes on its beginning.
pub const OPEN: &[u8] = b"\x1e\x1f\n";

/// The beginning of each line; the number is the version of the format.
pub(crate) const PREFIX: &[u8] = b"trainyard-init 2 ";

/// Before the program runs.
pub(crate) const BEGUN: &[u8] = b"begun";

pub(crate) const ENDED: &[u8] = b"ended";

/// When it cannot be run: the latch could not be made.
pub(crate) const NEVER: &[u8] = b"never";

/// When the kernel does not execute it.
pub(crate) const UNRUN: &[u8] = b"unrun";

/// Stands for ENOENT where the file exists, but the interpreter of its first line, or its loader, does not: ELIBACC.
pub(crate) const NO_INTERPRETER: i32 = 79;

/// Stands for ENOENT where the first line of a script ends with a carriage return: EILSEQ.
pub(crate) const CARRIAGE_RETURN: i32 = 84;

/// Exit code of an init that does not run the program: the latch was there, or could not be made.
pub const REFUSED: i32 = 125;
