//! System calls, as the kernel has them: there is no library beneath this program.

use core::arch::asm;

/// The number of an error, as in `errno`.
pub type Errno = i32;

pub const ENOENT: Errno = 2;
pub const EINTR: Errno = 4;
pub const E2BIG: Errno = 7;
pub const ENOEXEC: Errno = 8;
const ECHILD: Errno = 10;
pub const EAGAIN: Errno = 11;
pub const EACCES: Errno = 13;
pub const ENOTDIR: Errno = 20;

pub const SIGINT: i32 = 2;
pub const SIGQUIT: i32 = 3;
pub const SIGKILL: i32 = 9;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;
pub const SIGCONT: i32 = 18;

pub const O_RDONLY: usize = 0;
pub const O_WRONLY: usize = 1;
pub const O_CREAT: usize = 0o100;
pub const O_EXCL: usize = 0o200;
pub const O_NONBLOCK: usize = 0o4000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: usize = 0o100_000;
pub const O_CLOEXEC: usize = 0o2_000_000;

const AT_FDCWD: usize = -100_isize as usize;
const WNOHANG: usize = 1;
const PR_SET_DUMPABLE: usize = 4;
const PR_SET_CHILD_SUBREAPER: usize = 36;
/// The signal was sent with `kill`, in which case the kernel itself names the sender.
const SI_USER: i32 = 0;
const SIG_SETMASK: usize = 2;
/// Bytes of the kernel's set of signals.
const SIGSET: usize = 8;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const PWRITE64: usize = 18;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const PRCTL: usize = 157;
    pub const GETDENTS64: usize = 217;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const UNLINKAT: usize = 263;
    pub const GETPID: usize = 39;
    pub const PIPE2: usize = 293;
    pub const CLOCK_GETTIME: usize = 228;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const PWRITE64: usize = 68;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const PRCTL: usize = 167;
    pub const GETDENTS64: usize = 61;
    pub const EXIT_GROUP: usize = 94;
    pub const OPENAT: usize = 56;
    pub const UNLINKAT: usize = 35;
    pub const GETPID: usize = 172;
    pub const PIPE2: usize = 59;
    pub const CLOCK_GETTIME: usize = 113;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const DUP3: usize = 24;
}

/// Calls the kernel.
///
/// # Safety
/// As the call's own page says of its arguments.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    let [a, b, c, d, e] = arguments;
    let answer: isize;
    // SAFETY: the kernel keeps all registers but these.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result(answer)
}

/// Calls the kernel.
///
/// # Safety
/// As the call's own page says of its arguments.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    let [a, b, c, d, e] = arguments;
    let answer: isize;
    // SAFETY: the kernel keeps all registers but x0.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    result(answer)
}

fn result(answer: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&answer) {
        Err(-answer as Errno)
    } else {
        Ok(answer as usize)
    }
}

/// A text that ends with a zero byte, as the kernel wants it.
pub type Text = *const u8;

/// Opens a file. The path must be a zero-terminated text.
pub fn open(path: Text, flags: usize, mode: usize) -> Result<i32, Errno> {
    // SAFETY: reads a zero-terminated text.
    unsafe { call(number::OPENAT, [AT_FDCWD, path as usize, flags, mode, 0]) }.map(|fd| fd as i32)
}

/// Opens a file in a folder. The name must be a zero-terminated text.
pub fn open_in(folder: i32, name: Text, flags: usize) -> Result<i32, Errno> {
    // SAFETY: reads a zero-terminated text.
    unsafe {
        call(
            number::OPENAT,
            [folder as usize, name as usize, flags, 0, 0],
        )
    }
    .map(|fd| fd as i32)
}

/// The next entries of a folder, as the kernel writes them; how many bytes they take, zero at the end.
pub fn entries(folder: i32, to: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: writes no more than the length of the slice.
    unsafe {
        call(
            number::GETDENTS64,
            [folder as usize, to.as_mut_ptr() as usize, to.len(), 0, 0],
        )
    }
}

/// Removes a file. The path must be a zero-terminated text.
pub fn unlink(path: Text) -> Result<(), Errno> {
    // SAFETY: reads a zero-terminated text.
    unsafe { call(number::UNLINKAT, [AT_FDCWD, path as usize, 0, 0, 0]) }.map(|_| ())
}

pub fn close(fd: i32) {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::CLOSE, [fd as usize, 0, 0, 0, 0]) };
}

pub fn read(fd: i32, to: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: writes no more than the length of the slice.
    unsafe {
        call(
            number::READ,
            [fd as usize, to.as_mut_ptr() as usize, to.len(), 0, 0],
        )
    }
}

pub fn write(fd: i32, bytes: &[u8]) {
    let _ = write_some(fd, bytes);
}

/// Writes as much as there is room for.
pub fn write_some(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: reads no more than the length of the slice.
    unsafe {
        call(
            number::WRITE,
            [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0],
        )
    }
}

/// Writes at the beginning of a file, over its old content.
pub fn write_at_start(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: reads no more than the length of the slice.
    unsafe {
        call(
            number::PWRITE64,
            [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0],
        )
    }
}

/// Blocks the signals of a set; the set that was blocked before.
pub fn block(signals: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: reads and writes one set each.
    let _ = unsafe {
        let sets = [&raw const signals as usize, &raw mut before as usize];
        call(
            number::RT_SIGPROCMASK,
            [SIG_SETMASK, sets[0], sets[1], SIGSET, 0],
        )
    };
    before
}

/// A signal that came, and whether a process outside of this one's container sent it.
pub struct Signal {
    pub number: i32,
    pub from_outside: bool,
}

/// The kernel's description of a signal, as far as it is read: 128 bytes in all.
#[repr(C)]
struct Information {
    number: i32,
    errno: i32,
    code: i32,
    /// Zero where the sender is in none of the namespaces that we see.
    pid: i32,
    rest: [i32; 28],
}

/// A descriptor that can be read when one of these signals, which have to be blocked, has come.
pub fn signals(signals: u64) -> Result<i32, Errno> {
    let options = O_CLOEXEC | O_NONBLOCK;
    // SAFETY: reads one set.
    unsafe {
        let set = &raw const signals as usize;
        call(number::SIGNALFD4, [usize::MAX, set, SIGSET, options, 0])
    }
    .map(|fd| fd as i32)
}

/// The next signal that has come, if there is one.
pub fn next_signal(signals: i32) -> Option<Signal> {
    let mut info = Information {
        number: 0,
        errno: 0,
        code: 0,
        pid: 0,
        rest: [0; 28],
    };
    let length = size_of::<Information>();
    // SAFETY: writes one description.
    let read = unsafe {
        let to = &raw mut info as usize;
        call(number::READ, [signals as usize, to, length, 0, 0])
    };
    (read == Ok(length)).then_some(Signal {
        number: info.number,
        from_outside: info.code == SI_USER && info.pid == 0,
    })
}

/// A number of milliseconds.
pub type Millis = u64;

/// Seconds and nanoseconds.
#[repr(C)]
struct Time {
    seconds: i64,
    nanos: i64,
}

/// The time since some moment.
pub fn now() -> Millis {
    const MONOTONIC: usize = 1;
    let mut now = Time {
        seconds: 0,
        nanos: 0,
    };
    // SAFETY: writes one time.
    let _ = unsafe {
        let to = &raw mut now as usize;
        call(number::CLOCK_GETTIME, [MONOTONIC, to, 0, 0, 0])
    };
    now.seconds as Millis * 1000 + now.nanos as Millis / 1_000_000
}

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;

/// A descriptor, and the events to wait for at it.
#[repr(C)]
pub struct Poll {
    fd: i32,
    events: i16,
    found: i16,
}

impl Poll {
    /// The kernel passes it by.
    pub const NOTHING: Self = Self::of(-1, 0);

    pub const fn of(fd: i32, events: i16) -> Self {
        Self {
            fd,
            events,
            found: 0,
        }
    }

    /// Whether a read or a write, as was asked for, would not wait.
    pub fn is_ready(&self) -> bool {
        self.found != 0
    }
}

/// Waits until one of these is ready, for so long at most.
pub fn wait_for(polls: &mut [Poll], at_most: Option<Millis>) {
    let mut time = at_most.map(|millis| Time {
        seconds: (millis / 1000) as i64,
        nanos: (millis % 1000) as i64 * 1_000_000,
    });
    let time = time.as_mut().map_or(0, |time| &raw mut *time as usize);
    // SAFETY: reads and writes as many as there are, and reads one time, which it may write as well: it is ours.
    let waited = unsafe {
        let first = polls.as_mut_ptr() as usize;
        call(number::PPOLL, [first, polls.len(), time, 0, SIGSET])
    };
    if waited.is_err() {
        for poll in polls {
            poll.found = 0;
        }
    }
}

/// Makes `to` the same as `from`; programs inherit it.
pub fn put_in_place(from: i32, to: i32) {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::DUP3, [from as usize, to as usize, 0, 0, 0]) };
}

/// Splits into two processes; zero in the child.
pub fn fork() -> Result<i32, Errno> {
    // SAFETY: without CLONE_VM the child has memory and stack of its own.
    unsafe { call(number::CLONE, [SIGCHLD as usize, 0, 0, 0, 0]) }.map(|pid| pid as i32)
}

/// Becomes another program; returns only where that failed.
pub fn execute(path: Text, arguments: *const Text, environment: *const Text) -> Errno {
    // SAFETY: the lists come from the kernel itself and end with a null.
    let answer = unsafe {
        call(
            number::EXECVE,
            [
                path as usize,
                arguments as usize,
                environment as usize,
                0,
                0,
            ],
        )
    };
    answer.err().unwrap_or_default()
}

/// The result of a wait for a child.
pub enum Reaped {
    /// One has ended: its id and status.
    Ended(i32, i32),
    /// None has ended; there are some.
    None,
    /// There are none.
    NoChildren,
}

/// Takes the status of a child that has ended. `wait` until there is one.
pub fn reap(wait: bool) -> Reaped {
    let mut status = 0_i32;
    let options = if wait { 0 } else { WNOHANG };
    // SAFETY: writes one status.
    let pid = unsafe {
        call(
            number::WAIT4,
            [usize::MAX, &raw mut status as usize, options, 0, 0],
        )
    };
    match pid {
        Err(ECHILD) => Reaped::NoChildren,
        Ok(0) | Err(_) => Reaped::None,
        Ok(pid) => Reaped::Ended(pid as i32, status),
    }
}

/// A pipe that no program inherits: the end to read from, and the end to write to.
pub fn pipe() -> Result<(i32, i32), Errno> {
    let mut ends = [0_i32; 2];
    // SAFETY: writes two descriptors.
    unsafe {
        call(
            number::PIPE2,
            [ends.as_mut_ptr() as usize, O_CLOEXEC, 0, 0, 0],
        )
    }?;
    Ok((ends[0], ends[1]))
}

pub fn send(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::KILL, [pid as usize, signal as usize, 0, 0, 0]) };
}

/// Whether this is the first process of a container: then all others in it end with this one.
pub fn is_first() -> bool {
    // SAFETY: no memory is involved.
    let id = unsafe { call(number::GETPID, [0; 5]) };
    id == Ok(1)
}

/// Sends a signal to all other processes that this one sees; to be used by the first process of a container alone.
pub fn send_to_all_others(signal: i32) {
    send(-1, signal);
}

/// Hides this process: no process of the same user may trace it, or read its memory, environment or files.
pub fn hide() {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]) };
}

/// Orphans become children of this process, also where it is not the first one.
pub fn adopt_orphans() {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0]) };
}

pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { call(number::EXIT_GROUP, [code as usize, 0, 0, 0, 0]) };
    }
}
