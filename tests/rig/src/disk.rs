//! A small disk of a test's own, to be filled.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a fixed size in a file; unmounted when it is dropped.
#[derive(Debug)]
pub struct LoopDisk {
    mounted: PathBuf,
}

/// Disks of their own for parts of a fleet, by their sizes in bytes; the machine's without. Docker's is
/// in [`crate::engine::EngineOptions`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disks {
    /// For all that each daemon writes: its data folder, and its own log.
    pub daemons: Option<u64>,
    pub artifacts: Option<u64>,
    /// For Postgres: data, write-ahead log and its own log.
    pub postgres: Option<u64>,
}

impl LoopDisk {
    /// An empty ext4 of `size` bytes, kept in `file` and mounted at `at`.
    ///
    /// # Panics
    /// Without the right to mount, or without `mkfs.ext4`.
    #[must_use]
    pub fn new(file: &Path, at: &Path, size: u64) -> Self {
        File::create(file).unwrap().set_len(size).unwrap();
        std::fs::create_dir_all(at).unwrap();
        let (file, mounted) = (file.display().to_string(), at.display().to_string());
        run("mkfs.ext4", &["-q", "-m", "0", &file]);
        run("mount", &["-o", "loop", &file, &mounted]);
        // Postgres takes only an empty folder.
        std::fs::remove_dir(at.join("lost+found")).unwrap();
        Self {
            mounted: at.to_owned(),
        }
    }

    /// Takes all the room that is left. Returns the file that does; removing it gives it back.
    ///
    /// # Panics
    /// When the disk cannot be written to at all.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.mounted.join("filling");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let zeros = vec![0; size];
            while file.write_all(&zeros).is_ok() {}
        }
        // Data that is written and not yet placed counts as used as well.
        let _ = file.sync_all();
        path
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let mounted = self.mounted.display().to_string();
        let _ = Command::new("umount").args(["-l", &mounted]).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
