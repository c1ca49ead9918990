//! Following the two files that a program prints to. A cursor is the number of bytes read of each.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::folder::Folder;
use super::{Child, blocking, child_ended};
use crate::archive::storage;
use crate::contract::{Error, LogCursor, LogFrame, LogStream, Status, Stream};

/// Bytes of a frame at most.
const FRAME: usize = 64 * 1024;

/// How soon files are looked at again after they grew.
const BUSY: Duration = Duration::from_millis(10);

/// How seldom they are looked at while nothing comes.
const QUIET: Duration = Duration::from_millis(160);

/// Reads both files from the cursor on, until the program has ended and all was read.
pub(super) fn follow(folder: Folder, child: Option<Child>, after: Option<LogCursor>) -> LogStream {
    let after = after.unwrap_or_default();
    let reader = Some(Reader {
        folder,
        child,
        read: [after.major, after.minor].map(|n| u64::try_from(n).unwrap_or_default()),
        stderr_next: false,
        ended: false,
    });
    Box::pin(stream::unfold(reader, |reader| async move {
        let mut reader = reader?;
        let mut pause = BUSY;
        loop {
            let looked = blocking(move || {
                let found = reader.look()?;
                Ok((reader, found))
            });
            let found = match looked.await {
                Ok((back, found)) => {
                    reader = back;
                    found
                }
                Err(error) => return Some((Err(error), None)),
            };
            match found {
                Found::Frame(frame) => return Some((Ok(frame), Some(reader))),
                Found::End => return None,
                Found::Nothing => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = child_ended(reader.child.clone()), if reader.has_living_child() => {}
                    }
                    pause = (pause * 2).min(QUIET);
                }
            }
        }
    }))
}

struct Reader {
    folder: Folder,
    child: Option<Child>,
    /// Bytes read of stdout and stderr.
    read: [u64; 2],
    /// Whose turn it is, so that neither starves the other.
    stderr_next: bool,
    /// The program had ended before the last look.
    ended: bool,
}

enum Found {
    Frame(LogFrame),
    Nothing,
    End,
}

impl Reader {
    fn look(&mut self) -> Result<Found, Error> {
        loop {
            for _ in 0..2 {
                let stream = if self.stderr_next {
                    Stream::Stderr
                } else {
                    Stream::Stdout
                };
                self.stderr_next = !self.stderr_next;
                if let Some(frame) = self.next(stream).map_err(|error| storage(&error))? {
                    return Ok(Found::Frame(frame));
                }
            }
            if self.ended {
                return Ok(Found::End);
            }
            let spawned = self.child.as_ref().map(|child| child.pid);
            match self.folder.status(spawned) {
                Some(Status::Running { .. }) => return Ok(Found::Nothing),
                // What it wrote last came before its end: one more look finds it.
                Some(Status::Created | Status::Exited { .. } | Status::Unknown) | None => {
                    self.ended = true;
                }
            }
        }
    }

    fn next(&mut self, stream: Stream) -> io::Result<Option<LogFrame>> {
        let (name, index) = match stream {
            Stream::Stdout => ("stdout", 0),
            Stream::Stderr => ("stderr", 1),
        };
        let file = match File::open(self.folder.path().join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        let left = found.len().saturating_sub(self.read[index]);
        if left == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; FRAME.min(usize::try_from(left).unwrap_or(FRAME))];
        let count = file.read_at(&mut bytes, self.read[index])?;
        bytes.truncate(count);
        self.read[index] += count as u64;
        let [major, minor] = self.read.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        Ok((count > 0).then(|| LogFrame {
            stream,
            at: found
                .modified()
                .map_or_else(|_| crate::clock::now(), Into::into),
            bytes: Bytes::from(bytes),
            cursor: LogCursor { major, minor },
        }))
    }

    fn has_living_child(&self) -> bool {
        self.child
            .as_ref()
            .is_some_and(|child| !*child.ended.borrow())
    }
}
