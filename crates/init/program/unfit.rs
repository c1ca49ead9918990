//! Why the kernel did not execute a program, in words. The kernel's error number names the requested file, also where
//! another file is missing.

use crate::format::{CARRIAGE_RETURN, NO_INTERPRETER};
use crate::search::Failure;
use crate::system::{self, E2BIG, EACCES, ENOENT, ENOEXEC, Errno};

const ELF: &[u8] = b"\x7fELF";

/// Writes the reason to `fd`, as shells do. Returns the exit code, as shells have it, and the number for the record.
pub fn say(fd: i32, program: &[u8], failure: &Failure) -> (i32, Errno) {
    let head = failure.head();
    let line = head.strip_prefix(b"#!").map(first_line);
    let is_elf = head.starts_with(ELF);
    let interpreter = line.map_or(&b""[..], first_word);
    let (code, number, why): (_, _, [&[u8]; 3]) = match failure.errno {
        ENOENT if line.is_some_and(|line| line.ends_with(b"\r")) => (
            127,
            CARRIAGE_RETURN,
            [
                b"its first line ends with a carriage return, as on Windows (CRLF): save it with LF line ends",
                b"",
                b"",
            ],
        ),
        ENOENT if line.is_some() => (
            127,
            NO_INTERPRETER,
            [b"its interpreter `", interpreter, b"` is not in the image"],
        ),
        ENOENT if is_elf => (
            127,
            NO_INTERPRETER,
            [
                b"its loader is not in the image: it was built for another C library (glibc, musl)",
                b"",
                b"",
            ],
        ),
        ENOENT => (127, ENOENT, [b"the image has no such program", b"", b""]),
        EACCES => (126, EACCES, [b"it is not executable; `chmod +x` makes it", b"", b""]),
        ENOEXEC if is_elf => (
            126,
            ENOEXEC,
            [b"exec format error: it was built for another architecture", b"", b""],
        ),
        ENOEXEC => (
            126,
            ENOEXEC,
            [
                b"exec format error: it is neither a program nor a script that begins with `#!`",
                b"",
                b"",
            ],
        ),
        E2BIG => (
            126,
            E2BIG,
            [
                b"its arguments and variables are too long for the kernel (128 KiB in one, usually 2 MiB in all)",
                b"",
                b"",
            ],
        ),
        other => (126, other, [b"it cannot be executed", b"", b""]),
    };
    system::write(fd, b"trainyard: `");
    system::write(fd, program);
    system::write(fd, b"`: ");
    for part in why {
        system::write(fd, part);
    }
    system::write(fd, b"\n");
    (code, number)
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n').next().unwrap_or(text)
}

fn first_word(line: &[u8]) -> &[u8] {
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t'));
    words.find(|word| !word.is_empty()).unwrap_or(line)
}
