//! Becoming the stage's program: the search of `PATH`, as shells do it.

use crate::system::{self, EACCES, ENOENT, ENOTDIR, Errno, Text};

/// The longest path that the kernel takes, in bytes, its end included.
const LONGEST: usize = 4096;

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

/// Becomes the program that the first argument names; returns why not.
///
/// # Safety
/// Both lists end with a null.
pub unsafe fn become_program(arguments: *const Text, environment: *const Text) -> Errno {
    // SAFETY: the caller's promise.
    let (program, name) = unsafe { (*arguments, bytes(*arguments)) };
    if name.contains(&b'/') {
        return system::execute(program, arguments, environment);
    }
    let mut reason = ENOENT;
    // SAFETY: the caller's promise.
    let path = unsafe { value(environment, b"PATH=") }.unwrap_or(DEFAULT);
    for folder in path.split(|byte| *byte == b':') {
        let mut whole = [0_u8; LONGEST];
        // No room for the path and its end: nothing is there.
        if folder.len() + name.len() + 2 > LONGEST {
            continue;
        }
        // An empty entry is the working directory.
        let folder = if folder.is_empty() { b"." } else { folder };
        let parts = folder.iter().chain(b"/").chain(name);
        for (place, byte) in whole.iter_mut().zip(parts) {
            *place = *byte;
        }
        match system::execute(whole.as_ptr(), arguments, environment) {
            ENOENT | ENOTDIR => {}
            EACCES => reason = EACCES,
            other => return other,
        }
    }
    reason
}

/// The value of a variable.
///
/// # Safety
/// The list ends with a null.
unsafe fn value<'a>(environment: *const Text, name: &[u8]) -> Option<&'a [u8]> {
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
