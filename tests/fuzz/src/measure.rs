//! The cost of one input: time, memory, and whether it ends in a panic.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::targets::Target;

/// The bounds of one input. An honest one of this size takes some milliseconds, and machines are slow at times.
const TIME_AT_MOST: Duration = Duration::from_secs(2);

/// Memory at the same time for one input, in bytes.
const MEMORY_AT_MOST: usize = 64 << 20;

/// Worth a closer look.
const TIME_COSTLY: Duration = Duration::from_millis(20);
const MEMORY_COSTLY: usize = 4 << 20;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what the present thread holds.
#[derive(Debug)]
pub struct Counting;

fn add(size: usize) {
    // While a thread ends its cells are gone; nothing is measured then.
    let _ = HELD.try_with(|held| {
        held.set(held.get().saturating_add(size));
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

fn remove(size: usize) {
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(size)));
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its contract; all calls go on to the system's"
)]
// SAFETY: every call is passed on as it came; the counts are kept separately.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        remove(layout.size());
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        remove(layout.size());
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The bound that an input breaks.
#[derive(Debug, Clone)]
pub(crate) enum Broken {
    Panicked(String),
    TookTime(Duration),
    TookMemory(usize),
}

impl Broken {
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::TookTime(time) => write!(f, "took {time:?}"),
            Self::TookMemory(bytes) => write!(f, "took {} MiB", bytes >> 20),
        }
    }
}

/// Tries an input. `Ok` says whether it was costly.
pub(crate) fn attempt(target: &Target, input: &[u8]) -> Result<bool, Broken> {
    let held = HELD.get();
    MOST.set(held);
    let begin = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.call)(input)));
    let time = begin.elapsed();
    let memory = MOST.get().saturating_sub(held);
    if let Err(panic) = ended {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        return Err(Broken::Panicked(message.unwrap_or_default()));
    }
    if memory > MEMORY_AT_MOST {
        return Err(Broken::TookMemory(memory));
    }
    if time > TIME_AT_MOST {
        return Err(Broken::TookTime(time));
    }
    Ok(time > TIME_COSTLY || memory > MEMORY_COSTLY)
}
