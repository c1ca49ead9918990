//! The bytes that go into containers and come out of them, wherever they are kept.
//!
//! An executor gets a [`Blob`] to read and a [`BlobSink`] to write to, and never a path: a daemon keeps them as files on
//! its disk today, and an object in a bucket or a stream to another machine can take their place. Both may block.
//! Executors read and write archives on threads of their own, and a file is copied no more often than through a path.

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Content that can be read as often as it is needed: an adopted container may have to be laid out again.
pub trait Blob: fmt::Debug + Send + Sync {
    /// Opens it at its beginning.
    ///
    /// # Errors
    /// It cannot be read.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

/// A place for the content of one output.
pub trait BlobSink: fmt::Debug + Send + Sync {
    /// Opens it empty, whatever an earlier try has written. The content is complete once the call that writes it has
    /// succeeded.
    ///
    /// # Errors
    /// It cannot be written.
    fn create(&self) -> io::Result<Box<dyn Write + Send>>;
}

/// A file on the disk of this machine.
#[derive(Debug)]
pub struct LocalFile(PathBuf);

impl LocalFile {
    /// The content of the file at `path`.
    pub fn blob(path: impl Into<PathBuf>) -> Arc<dyn Blob> {
        Arc::new(Self(path.into()))
    }

    /// The file at `path`, to be written.
    pub fn sink(path: impl Into<PathBuf>) -> Arc<dyn BlobSink> {
        Arc::new(Self(path.into()))
    }
}

impl Blob for LocalFile {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(&self.0)?))
    }
}

impl BlobSink for LocalFile {
    fn create(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(File::create(&self.0)?))
    }
}

/// Content in memory, for tests. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct InMemory(Arc<Mutex<Vec<u8>>>);

impl InMemory {
    /// A copy of the content.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clone()
    }
}

impl From<Vec<u8>> for InMemory {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(bytes)))
    }
}

impl Blob for InMemory {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.bytes())))
    }
}

impl BlobSink for InMemory {
    fn create(&self) -> io::Result<Box<dyn Write + Send>> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clear();
        Ok(Box::new(self.clone()))
    }
}

impl Write for InMemory {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.write(more)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
