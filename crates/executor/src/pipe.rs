//! Bounded pipes between asynchronous streams of bytes and code that reads or writes in a blocking
//! way, as archives are read and written.
//!
//! At most [`PIECES`] pieces are under way, so neither side can fill the memory. Each side notices when the other
//! fails or goes away: a half-written stream never looks like a complete one.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Pieces under way: with [`PIECE`], one MiB.
const PIECES: usize = 16;

/// The size of a piece, in bytes.
const PIECE: usize = 64 * 1024;

type Item = io::Result<Bytes>;

/// A stream that blocking code writes to.
pub(crate) fn outgoing() -> (
    PipeWriter,
    impl Stream<Item = Item> + Send + use<>,
    Progress,
) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let progress = Progress::default();
    let writer = PipeWriter {
        sender,
        buffer: BytesMut::with_capacity(PIECE),
        progress: progress.clone(),
    };
    (writer, ReceiverStream::new(receiver), progress)
}

/// A stream that blocking code reads from.
pub(crate) fn incoming() -> (mpsc::Sender<Item>, PipeReader) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let reader = PipeReader {
        receiver,
        piece: Bytes::new(),
    };
    (sender, reader)
}

/// The progress of a stream; distinguishes a slow one from one that is stuck.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Returns once nothing moved for `idle`.
    pub(crate) async fn stalled(&self, idle: Duration) {
        let mut last = self.0.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(idle).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == last {
                return;
            }
            last = now;
        }
    }
}

/// The writing end. The stream is complete only after [`PipeWriter::finish`].
pub(crate) struct PipeWriter {
    sender: mpsc::Sender<Item>,
    buffer: BytesMut,
    progress: Progress,
}

impl PipeWriter {
    /// Sends the rest, or an error to the reading end: the stream is not complete.
    pub(crate) fn finish(mut self, result: io::Result<()>) -> io::Result<()> {
        let result = result.and_then(|()| self.flush());
        if let Err(error) = &result {
            // The reading end may be gone; then it needs no error.
            let _ = self
                .sender
                .blocking_send(Err(io::Error::new(error.kind(), "cut off")));
        }
        result
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        let length = piece.len() as u64;
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.progress.0.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.buffer.len();
        let taken = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.send()
    }
}

pub(crate) struct PipeReader {
    receiver: mpsc::Receiver<Item>,
    piece: Bytes,
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Err(error),
                None => return Ok(0),
            }
        }
        let taken = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_whole_and_in_order() {
        let text: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let (mut writer, mut stream, _) = outgoing();
        let sent = text.clone();
        let write = tokio::task::spawn_blocking(move || {
            let result = writer.write_all(&sent);
            writer.finish(result)
        });
        let (sender, mut reader) = incoming();
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        while let Some(piece) = stream.next().await {
            sender.send(piece).await.unwrap();
        }
        drop(sender);
        write.await.unwrap().unwrap();
        assert!(read.await.unwrap().unwrap() == text);
    }

    #[tokio::test]
    async fn a_writer_that_fails_does_not_look_like_one_that_ended() {
        let (mut writer, stream, _) = outgoing();
        let write = tokio::task::spawn_blocking(move || {
            writer.write_all(b"half").unwrap();
            writer.finish(Err(io::Error::other("disk")))
        });
        let last = stream.collect::<Vec<_>>().await.pop();
        assert!(matches!(last, Some(Err(_))));
        assert!(write.await.unwrap().is_err());
    }
}
