//! A file system of a few MiB, to be filled up.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts `mebibytes` at `folder`, which is made.
    ///
    /// # Panics
    /// When it cannot be mounted: that needs root.
    #[must_use]
    pub fn mount(folder: &Path, mebibytes: u32) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let shown = folder.display().to_string();
        let options = options(mebibytes);
        call("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &shown]);
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Gives it `mebibytes` in all.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn resize(&self, mebibytes: u32) {
        let options = format!("remount,{}", options(mebibytes));
        let shown = self.folder.display().to_string();
        call("mount", &["-o", &options, &shown]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still has a file open there blocks nothing.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn options(mebibytes: u32) -> String {
    format!("size={mebibytes}m,mode=0755")
}

fn call(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
