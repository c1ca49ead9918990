//! The first process of a container: `init LATCH PROGRAM [ARGUMENT...]`.
//!
//! It makes the latch, a file that must not exist, before it runs the program: a container that is
//! started a second time runs nothing. It passes signals on, reaps orphans, and when the program has
//! ended writes how over the latch and, marked, to standard error, where the daemon reads it in
//! passing. It ends with the program's exit code, 128 + n after signal n.
//!
//! It needs nothing of the image (no libc, no shell, no /tmp), only a place for the latch: its folder
//! is made where that is missing and permitted.

#![no_std]
#![no_main]

#[path = "../src/format.rs"]
mod format;
mod line;
mod memory;
mod search;
mod system;

use core::arch::global_asm;

use crate::format::{BEGUN, ENDED, LINE, MARK, NEVER, REFUSED};
use crate::line::{Facts, line};
use crate::system::{
    EEXIST, ENOENT, Errno, O_CLOEXEC, O_CREAT, O_EXCL, O_RDONLY, O_WRONLY, SIGCHLD, SIGINT,
    SIGQUIT, SIGTERM, Text,
};

const STDERR: i32 = 2;

/// Signals that tell of a fault in this very process; they are not passed on: SIGILL, SIGTRAP,
/// SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
const OWN: u64 = bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(11) | bit(31);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    main = sym main,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl {main}",
    main = sym main,
);

/// `stack` is what the kernel leaves there: the number of arguments, the arguments, a null, the
/// environment, a null.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: so the kernel has laid it out.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<Text>()) };
    if count < 3 {
        system::write(STDERR, b"usage: init LATCH PROGRAM [ARGUMENT...]\n");
        system::exit(REFUSED);
    }
    // SAFETY: there are as many arguments, a null, and the environment.
    let (latch, program, environment) = unsafe {
        (
            *arguments.add(1),
            arguments.add(2),
            arguments.add(count + 1),
        )
    };
    let latch = match take(latch) {
        Ok(latch) => latch,
        Err(EEXIST) => system::exit(REFUSED),
        Err(errno) => {
            tell(&line(
                NEVER,
                &Facts {
                    errno,
                    ..Facts::NONE
                },
            ));
            system::exit(REFUSED)
        }
    };
    system::adopt_orphans();
    // All are blocked before the program is there, so that none gets lost.
    let signals = !OWN;
    let before = system::block(signals);
    let child = match system::fork() {
        Ok(0) => {
            system::block(before);
            // SAFETY: the lists are the kernel's own.
            let errno = unsafe { search::become_program(program, environment) };
            // SAFETY: an argument ends with a zero byte.
            not_run(unsafe { search::bytes(*program) }, errno)
        }
        Ok(child) => child,
        Err(errno) => {
            let said = line(
                NEVER,
                &Facts {
                    errno,
                    ..Facts::NONE
                },
            );
            let _ = system::write_at_start(latch, &said);
            tell(&said);
            system::exit(REFUSED)
        }
    };
    let (status, asked) = attend(child, signals);
    let signal = status & 0x7f;
    let code = if signal == 0 {
        status >> 8 & 0xff
    } else {
        128 + signal
    };
    let facts = Facts {
        code,
        signal,
        asked,
        out_of_memory: killed_for_memory(),
        errno: 0,
    };
    let said = line(ENDED, &facts);
    let _ = system::write_at_start(latch, &said);
    tell(&said);
    system::exit(code)
}

/// Makes the latch; `EEXIST` where somebody was here before.
fn take(path: Text) -> Result<i32, Errno> {
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    let latch = match system::open(path, flags, 0o644) {
        Err(ENOENT) => {
            make_folder_of(path)?;
            system::open(path, flags, 0o644)?
        }
        other => other?,
    };
    // What is written at the end goes over this: it needs no more room.
    system::write_at_start(latch, &line(BEGUN, &Facts::NONE))?;
    Ok(latch)
}

/// Makes the folder that a file is in.
fn make_folder_of(path: Text) -> Result<(), Errno> {
    let mut folder = [0_u8; 256];
    // SAFETY: an argument ends with a zero byte.
    let path = unsafe { search::bytes(path) };
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    for (place, byte) in folder.iter_mut().zip(&path[..end.min(255)]) {
        *place = *byte;
    }
    match system::make_folder(folder.as_ptr(), 0o755) {
        Err(EEXIST) => Ok(()),
        other => other,
    }
}

/// Passes signals on and reaps until the program has ended: its status, and whether it was asked to.
fn attend(child: i32, signals: u64) -> (i32, bool) {
    let mut asked = false;
    loop {
        match system::next_signal(signals) {
            0 => {}
            SIGCHLD => {
                while let Some((pid, status)) = system::reap() {
                    if pid == child {
                        return (status, asked);
                    }
                }
            }
            signal => {
                asked |= matches!(signal, SIGTERM | SIGINT | SIGQUIT);
                system::send(child, signal);
            }
        }
    }
}

/// Says that the program cannot be run, in the words of shells, and ends with their exit codes.
fn not_run(program: &[u8], errno: Errno) -> ! {
    let (why, code): (&[u8], i32) = match errno {
        ENOENT => (b"`: the image has no such program\n", 127),
        system::EACCES => (b"`: it is not executable\n", 126),
        _ => (b"`: it cannot be executed\n", 126),
    };
    system::write(STDERR, b"trainyard: `");
    system::write(STDERR, program);
    system::write(STDERR, why);
    system::exit(code)
}

/// Writes a line to the log, marked.
fn tell(said: &[u8; LINE]) {
    let mut marked = [MARK; LINE + 1];
    for (place, byte) in marked[1..].iter_mut().zip(said) {
        *place = *byte;
    }
    // In one piece, so that nothing comes in between.
    system::write(STDERR, &marked);
}

/// Whether the kernel killed a process of this container for its use of memory, by its control group:
/// the second version's file, then the first's.
fn killed_for_memory() -> bool {
    [
        c"/sys/fs/cgroup/memory.events",
        c"/sys/fs/cgroup/memory/memory.oom_control",
    ]
    .iter()
    .any(|file| counts_kills(file.as_ptr().cast()))
}

fn counts_kills(file: Text) -> bool {
    let Ok(fd) = system::open(file, O_RDONLY | O_CLOEXEC, 0) else {
        return false;
    };
    let mut text = [0_u8; 512];
    let length = system::read(fd, &mut text).unwrap_or(0).min(text.len());
    system::close(fd);
    text[..length]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"oom_kill "))
        .any(|count| count != b"0")
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    system::exit(REFUSED)
}
