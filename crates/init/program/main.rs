//! The first process of a container: `init LATCH START NONCE PROGRAM [ARGUMENT...]`.
//!
//! It runs the program if this is the container's first start, passes signals on, and reaps orphans. When the program
//! has ended, it writes a record of the end over the latch and, marked, to standard error, where the daemon finds it
//! while reading the log. It ends with the program's exit code, 128 + n after signal n.
//!
//! A request to stop that comes from outside of the container goes to every process in it: the trainer is a child of
//! the stage's shell, which would die of the signal and leave the trainer to be killed. So all of them have the grace
//! period that Docker gives, not the program alone.
//!
//! The program's output goes through this process, which shows lines that stay open (`relay`).
//!
//! The program may be hostile, and runs as the same user. So two things are proved by a nonce that it never
//! sees: 64 hexadecimal digits, which the daemon drew for this container and finds again in its labels.
//!
//! - The first half lies in the file START, laid out before the first start and removed before the program runs.
//!   Without that file, or with any other content in it, the container was started before, and nothing is run: the
//!   program cannot make that file, whatever else it removes or makes.
//! - The second half stands in each record. Without it, nothing that the program prints or writes counts as a record.
//!   When a record with it is written, no other process runs in the container that could read and reuse it.
//!
//! The nonce comes as an argument, which any process could read in `/proc/1/cmdline`, so it is wiped before the
//! program exists. The kernel lets no process in the container trace this process or read its memory.
//!
//! It needs nothing of the image (no libc, no shell, no /tmp), only the folder of the latch.

#![no_std]
#![no_main]

#[path = "../src/format.rs"]
mod format;
mod line;
mod memory;
mod relay;
mod search;
mod sockets;
mod system;
mod unfit;

use core::arch::global_asm;

use crate::format::{BEGUN, ENDED, HALF, LINE, MARK, NEVER, REFUSED, UNRUN};
use crate::line::{Facts, NO_NONCE, line};
use crate::relay::Relay;
use crate::system::{
    ENOENT, Errno, Millis, O_CLOEXEC, O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_WRONLY, POLLIN,
    Poll, Reaped, SIGCHLD, SIGCONT, SIGINT, SIGKILL, SIGQUIT, SIGTERM, Text,
};

const STDOUT: i32 = 1;
const STDERR: i32 = 2;

/// Signals that report a fault in this very process; they are not passed on: SIGILL, SIGTRAP, SIGABRT, SIGBUS,
/// SIGFPE, SIGSEGV, SIGSYS.
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
    if count < 5 {
        usage();
    }
    // First of all: the kernel drops a signal for PID 1 that is neither handled nor blocked, and a stop may come at once.
    // They are blocked before the program exists, too, so that none gets lost.
    let signals = !OWN;
    let before = system::block(signals);
    system::hide();
    // SAFETY: there are as many arguments, a null, and the environment.
    let (latch, start, nonce, program, environment) = unsafe {
        (
            *arguments.add(1),
            *arguments.add(2),
            take_nonce(*arguments.add(3)),
            arguments.add(4),
            arguments.add(count + 1),
        )
    };
    let Some((start_half, end_half)) = nonce else {
        usage()
    };
    let never = |errno| {
        let facts = Facts {
            errno,
            ..Facts::NONE
        };
        line(NEVER, &facts, &end_half)
    };
    if !is_first_start(start, &start_half) {
        system::exit(REFUSED);
    }
    let latch = match take(latch, start) {
        Ok(latch) => latch,
        Err(errno) => {
            write_record(&never(errno));
            system::exit(REFUSED)
        }
    };
    system::adopt_orphans();
    let started = (|| {
        let signals = system::signals(signals)?;
        let [failure, out, err] = [system::pipe()?, system::pipe()?, system::pipe()?];
        Ok((signals, failure, out, err, system::fork()?))
    })();
    let (signals, failure, out, err, child) = match started {
        Ok((_, (_, to), (_, out), (_, err), 0)) => {
            system::put_in_place(out, STDOUT);
            system::put_in_place(err, STDERR);
            system::block(before);
            // SAFETY: the lists are the kernel's own.
            let failure = unsafe { search::become_program(program, environment) };
            // SAFETY: an argument ends with a zero byte.
            let (code, number) = unfit::say(STDERR, unsafe { search::bytes(*program) }, &failure);
            system::write(to, &number.to_ne_bytes());
            system::exit(code)
        }
        Ok(started) => started,
        Err(errno) => {
            let said = never(errno);
            let _ = system::write_at_start(latch, &said);
            write_record(&said);
            system::exit(REFUSED)
        }
    };
    system::close(out.1);
    system::close(err.1);
    let unrun = why_not_run(failure);
    let mut printed = [Relay::new(out.0, STDOUT), Relay::new(err.0, STDERR)];
    let (status, asked) = attend(child, signals, &mut printed);
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
        errno: unrun.unwrap_or(0),
    };
    // Processes that are left in the container would end with this process anyway. They must not see the nonce: they
    // have to be gone, not only killed, before it is written.
    if system::is_first() {
        system::send_to_all_others(SIGKILL);
        while !matches!(system::reap(true), Reaped::NoChildren) {}
    }
    pass_on_the_rest(&mut printed);
    // SAFETY: the list is the kernel's own.
    unsafe { sockets::say(STDERR, environment) };
    let word = if unrun.is_some() { UNRUN } else { ENDED };
    let said = line(word, &facts, &end_half);
    let _ = system::write_at_start(latch, &said);
    write_record(&said);
    system::exit(code)
}

fn usage() -> ! {
    system::write(
        STDERR,
        b"usage: init LATCH START NONCE PROGRAM [ARGUMENT...]\n",
    );
    system::exit(REFUSED)
}

/// Reads both halves of the nonce, and wipes it from where others can read it.
///
/// # Safety
/// An argument from the kernel, which is this process's own memory.
unsafe fn take_nonce(argument: Text) -> Option<([u8; HALF], [u8; HALF])> {
    let mut halves = [[0_u8; HALF]; 2];
    // SAFETY: the caller's promise. Volatile, because the write has to happen although this
    // program never reads it again.
    unsafe {
        let length = search::bytes(argument).len();
        for index in 0..length {
            let place = argument.add(index).cast_mut();
            if let Some(half) = halves.get_mut(index / HALF) {
                half[index % HALF] = place.read_volatile();
            }
            place.write_volatile(b'-');
        }
        (length == 2 * HALF).then_some((halves[0], halves[1]))
    }
}

/// Whether the start file exists as it was laid out.
fn is_first_start(file: Text, expected: &[u8; HALF]) -> bool {
    // In place of the file, the program may have left a pipe without a writer.
    let Ok(fd) = system::open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0) else {
        return false;
    };
    let mut found = [0_u8; HALF];
    let length = system::read(fd, &mut found);
    system::close(fd);
    length == Ok(HALF) && found == *expected
}

/// Makes the latch, and then removes the start file: from now on, the container counts as started.
fn take(latch: Text, start: Text) -> Result<i32, Errno> {
    // A latch that exists already came with the image.
    match system::unlink(latch) {
        Ok(()) | Err(ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let made = system::open(latch, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)?;
    // The record of the end replaces this line: it needs no further room.
    system::write_at_start(made, &line(BEGUN, &Facts::NONE, &NO_NONCE))?;
    system::unlink(start)?;
    Ok(made)
}

/// Waits until the program is executed; the number that says why it is not.
fn why_not_run((from, to): (i32, i32)) -> Option<Errno> {
    system::close(to);
    let mut number = [0_u8; 4];
    // The other end is closed as the program is executed, or as the process dies before it could be.
    let length = system::read(from, &mut number);
    system::close(from);
    (length == Ok(number.len())).then(|| Errno::from_ne_bytes(number))
}

/// Passes signals and output on, and reaps until the program has ended and, where it was asked to stop, all that it
/// started: its status, and whether it was asked.
fn attend(child: i32, signals: i32, printed: &mut [Relay; 2]) -> (i32, bool) {
    let mut asked = false;
    let mut ended = None;
    let is_first = system::is_first();
    loop {
        pass_on(printed, signals, None);
        let Some(signal) = system::next_signal(signals) else {
            continue;
        };
        match signal.number {
            SIGCHLD => loop {
                match system::reap(false) {
                    Reaped::Ended(pid, status) if pid == child => ended = Some(status),
                    Reaped::Ended(..) => {}
                    Reaped::None if asked && is_first => break,
                    Reaped::None | Reaped::NoChildren => match ended {
                        Some(status) => return (status, asked),
                        None => break,
                    },
                }
            },
            number => {
                // The program may signal this process too; that is not a request to stop.
                let counts = signal.from_outside || !is_first;
                let asks = counts && matches!(number, SIGTERM | SIGINT | SIGQUIT);
                asked |= asks;
                if asks && is_first {
                    system::send_to_all_others(number);
                    // A stopped process would not notice the signal before it is killed.
                    system::send_to_all_others(SIGCONT);
                } else {
                    system::send(child, number);
                }
            }
        }
    }
}

/// Waits for output, for a signal, for a line to show, or for this time at most, and passes output on.
/// Returns whether there was any.
fn pass_on(printed: &mut [Relay; 2], signals: i32, at_most: Option<Millis>) -> bool {
    let now = system::now();
    for relay in &mut *printed {
        relay.show_open_line(now);
    }
    let [out, err] = &*printed;
    let due = [out, err].into_iter().filter_map(Relay::due);
    let due = due.map(|due| due.saturating_sub(now)).chain(at_most).min();
    let mut polls = [out.poll(), err.poll(), Poll::of(signals, POLLIN)];
    system::wait_for(&mut polls, due);
    let now = system::now();
    let mut any = false;
    for (relay, poll) in printed.iter_mut().zip(&polls) {
        if poll.is_ready() {
            relay.go_on(now);
            any = true;
        }
    }
    any
}

/// Passes on the output from before the end.
fn pass_on_the_rest(printed: &mut [Relay; 2]) {
    const NO_SIGNALS: i32 = -1;
    loop {
        let at_most = printed.iter().all(|relay| !relay.is_writing()).then_some(0);
        if !pass_on(printed, NO_SIGNALS, at_most) && at_most.is_some() {
            return;
        }
    }
}

/// Writes a record to the log, marked.
fn write_record(said: &[u8; LINE]) {
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
