//! libgit2's settings for the whole process, applied once before its first use here.
//!
//! With [`super::transport`] the only unsafe code of this crate: libgit2 keeps these in globals without a lock, so
//! they may only be written while no other thread is inside libgit2. [`apply`] runs before any mirror exists, and no
//! other part of Trainyard uses libgit2 except through a mirror.

use std::sync::OnceLock;

use git2::ConfigLevel;

/// How many bytes of packs are mapped at one time, and in which pieces: address space, not memory.
const MAPPED: usize = 4 << 30;
const MAPPED_PIECE: usize = 256 << 20;

/// How many bytes of read objects libgit2 caches.
const CACHED: isize = 32 << 20;

/// Applies the settings, at the first call.
///
/// # Errors
/// libgit2's error; the settings are then not reliable, and nothing may be fetched.
pub(super) fn apply() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| write().map_err(|error| error.message().to_owned()))
        .clone()
}

/// Lets repositories of any owner be read, as [`apply`] does, and leaves the rest to the user's configuration, whose
/// `core.excludesFile` says which files git ignores. For a process that reads its user's work tree and has no mirror.
pub(super) fn read_any_owner() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    #[expect(
        unsafe_code,
        reason = "libgit2's globals have no safe setter; see the module's head"
    )]
    let write = || {
        // SAFETY: it is called once, before this process uses libgit2.
        unsafe { git2::opts::set_verify_owner_validation(false) }
            .map_err(|error| error.message().to_owned())
    };
    DONE.get_or_init(write).clone()
}

#[expect(
    unsafe_code,
    reason = "libgit2's globals have no safe setter; see the module's head"
)]
fn write() -> Result<(), git2::Error> {
    // SAFETY: `apply` calls this once, and blocks every other user of libgit2 until it is done.
    unsafe {
        git2::opts::set_mwindow_mapped_limit(MAPPED)?;
        git2::opts::set_mwindow_size(MAPPED_PIECE)?;
        git2::opts::set_cache_max_size(CACHED)?;
        // The check keeps other people's configuration from running programs. libgit2 runs none, and remotes given as
        // a path normally belong to the users who push to them.
        git2::opts::set_verify_owner_validation(false)?;
        // The configuration of the user who starts the daemon must have no effect: a `url.*.insteadOf` there would
        // send credentials somewhere else.
        for level in [
            ConfigLevel::System,
            ConfigLevel::Global,
            ConfigLevel::XDG,
            ConfigLevel::ProgramData,
        ] {
            git2::opts::set_search_path(level, "")?;
        }
    }
    super::transport::register()
}
