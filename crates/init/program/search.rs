//! Becoming the stage's program: the search of `PATH`, as shells do it.

use crate::system::{self, EACCES, ENOENT, ENOTDIR, Errno, O_CLOEXEC, O_NONBLOCK, O_RDONLY, Text};

/// The longest path that the kernel takes, in bytes, its end included.
const LONGEST: usize = 4096;

/// How much of a file's beginning is read: as much as the kernel reads.
const HEAD: usize = 256;

/// Where to search without a `PATH`.
const DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The bytes of a text from the kernel.
///
/// # Safety
/// It ends with a zero byte.
pub unsafe fn bytes<'a>(text: Text) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: stops at the zero byte.
    unsafe {
        while *text.add(length) != 0 {
            length += 1;
        }
        core::slice::from_raw_parts(text, length)
    }
}

/// Why a program was not executed.
pub struct Failure {
    pub errno: Errno,
    /// The beginning of the file; empty where there is none, or it cannot be read.
    pub head: [u8; HEAD],
    pub length: usize,
}

impl Failure {
    fn of(path: Text, errno: Errno) -> Self {
        let mut head = [0; HEAD];
        let mut length = 0;
        if let Ok(fd) = system::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0) {
            length = system::read(fd, &mut head).unwrap_or(0).min(HEAD);
            system::close(fd);
        }
        Self {
            errno,
            head,
            length,
        }
    }

    pub fn head(&self) -> &[u8] {
        &self.head[..self.length]
    }
}

/// Becomes the program that the first argument names; returns why not.
///
/// # Safety
/// Both lists end with a null.
pub unsafe fn become_program(arguments: *const Text, environment: *const Text) -> Failure {
    // SAFETY: the caller's promise.
    let (program, name) = unsafe { (*arguments, bytes(*arguments)) };
    if name.contains(&b'/') {
        return Failure::of(program, system::execute(program, arguments, environment));
    }
    let mut reason = Failure {
        errno: ENOENT,
        head: [0; HEAD],
        length: 0,
    };
    // SAFETY: the caller's promise.
    let path = unsafe { value(environment, b"PATH=") }.unwrap_or(DEFAULT);
    for folder in path.split(|byte| *byte == b':') {
        let mut whole = [0_u8; LONGEST];
        // No room for the path and its end: no such file exists.
        if folder.len() + name.len() + 2 > LONGEST {
            continue;
        }
        // An empty entry is the working directory.
        let folder = if folder.is_empty() { b"." } else { folder };
        let parts = folder.iter().chain(b"/").chain(name);
        for (place, byte) in whole.iter_mut().zip(parts) {
            *place = *byte;
        }
        let errno = system::execute(whole.as_ptr(), arguments, environment);
        let failure = Failure::of(whole.as_ptr(), errno);
        match errno {
            // A file that exists without its interpreter says more than a missing file.
            ENOENT if failure.length == 0 => {}
            ENOTDIR => {}
            ENOENT | EACCES => reason = failure,
            _ => return failure,
        }
    }
    reason
}

/// The value of a variable.
///
/// # Safety
/// The list ends with a null.
pub unsafe fn value<'a>(environment: *const Text, name: &[u8]) -> Option<&'a [u8]> {
    let mut variable = environment;
    // SAFETY: stops at the null.
    unsafe {
        while !(*variable).is_null() {
            if let Some(value) = bytes(*variable).strip_prefix(name) {
                return Some(value);
            }
            variable = variable.add(1);
        }
    }
    None
}
