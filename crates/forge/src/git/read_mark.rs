//! A mark on the disk while a commit of a repo is read.
//!
//! A commit that makes the daemon die, by using up the machine's memory for example, would kill each next start. The
//! mark outlives a process that is killed, and nothing else: it is removed when the reading ends, also by a panic or
//! an orderly stop. So it counts deaths in a row, and none that came at another time.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{Error, Mirror};

/// A reading in progress; it ends when this is dropped.
#[derive(Debug)]
pub struct ReadMark {
    path: PathBuf,
}

impl Mirror {
    /// How many processes in a row were killed while they read commits of this repo.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn deaths(&self) -> Result<u32, Error> {
        match fs::read_to_string(self.mark_path()) {
            // A process that was killed while it wrote the mark left nothing in it.
            Ok(text) => Ok(text.trim().parse().unwrap_or(1)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Error::disk("the mirror's mark cannot be read", &error)),
        }
    }

    /// Marks that commits of this repo are read from now on, by one process at a time.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn mark_reading(&self) -> Result<ReadMark, Error> {
        let deaths = self.deaths()?;
        let path = self.mark_path();
        fs::write(&path, deaths.saturating_add(1).to_string())
            .map_err(|error| Error::disk("the mirror's mark cannot be written", &error))?;
        Ok(ReadMark { path })
    }
}

impl Drop for ReadMark {
    fn drop(&mut self) {
        // If it stays, it counts as one death too many, and three are needed.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use trainyard_core::id::RepoId;
    use uuid::Uuid;

    use super::super::Mirrors;

    #[test]
    fn a_mark_counts_processes_that_were_killed_in_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirrors::new(folder.path().to_owned()).mirror(RepoId(Uuid::nil()));
        for deaths in 0..3 {
            assert_eq!(mirror.deaths().unwrap(), deaths);
            // As a killed process leaves it.
            std::mem::forget(mirror.mark_reading().unwrap());
        }
        assert_eq!(mirror.deaths().unwrap(), 3);
        drop(mirror.mark_reading().unwrap());
        assert_eq!(mirror.deaths().unwrap(), 0, "the reading ended");
    }
}
