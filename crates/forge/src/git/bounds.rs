//! The limits that a child process sets on itself before it does anything else.
//!
//! Memory is bounded as `RLIMIT_DATA`, which counts private writable memory: the objects that it unpacks. Packs are
//! read through mappings of files, which are the disk's cache and not counted, so a large honest repo needs no more
//! memory than a small one. `RLIMIT_AS` is a second, much higher limit.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::job::Bounds;

/// The address space beyond the memory: the program itself, its threads, and mappings of packs.
const MAPPINGS: u64 = 16 << 30;

/// The OOM score adjustment: the kernel kills this process much sooner than the daemon when memory is short.
const OOM_SCORE: &str = "900";

impl Bounds {
    /// Applies the limits to this process, for good.
    pub(super) fn hold(&self) -> io::Result<()> {
        let seconds = self.cpu.as_secs().max(1);
        for (resource, limit) in [
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_DATA, self.memory),
            (Resource::RLIMIT_AS, self.memory.saturating_add(MAPPINGS)),
            (Resource::RLIMIT_FSIZE, self.file),
        ] {
            bound(resource, limit, limit)?;
        }
        // At the soft limit, the signal shows the cause.
        bound(Resource::RLIMIT_CPU, seconds, seconds.saturating_add(5))?;
        // Every fetch leaves a pack, and all of them are opened.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        // Not writable everywhere; then the kernel chooses by itself.
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        Ok(())
    }
}

/// Sets a limit, or leaves a lower one that this process was started under: it cannot be raised.
fn bound(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let (_, most) = getrlimit(resource)?;
    setrlimit(resource, soft.min(most), hard.min(most))?;
    Ok(())
}
