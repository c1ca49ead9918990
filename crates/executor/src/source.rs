//! Reads source trees: tar archives, compressed by zstd or not.

use std::io::{self, BufReader, Cursor, Read};

use zstd::Decoder;

use crate::blob::Blob;

/// The first bytes of zstd. No tar archive begins with them: a name in their place would end at a slash or null byte.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How much is read at once.
const AT_ONCE: usize = 128 * 1024;

/// A source tree's archive, to be read.
pub(crate) type Source = Box<dyn Read + Send>;

/// Opens the archive of a source tree.
///
/// # Errors
/// It cannot be read.
pub(crate) fn open(tree: &dyn Blob) -> io::Result<Source> {
    let mut bytes = tree.open()?;
    let mut begin = Vec::new();
    bytes
        .by_ref()
        .take(MAGIC.len() as u64)
        .read_to_end(&mut begin)?;
    let is_compressed = begin == MAGIC;
    let whole = BufReader::with_capacity(AT_ONCE, Cursor::new(begin).chain(bytes));
    if is_compressed {
        Ok(Box::new(BufReader::with_capacity(
            AT_ONCE,
            Decoder::with_buffer(whole)?,
        )))
    } else {
        Ok(Box::new(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive that arrives byte by byte.
    #[derive(Debug, Clone)]
    struct Drops(Cursor<Vec<u8>>);

    impl Blob for Drops {
        fn open(&self) -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(self.clone()))
        }
    }

    impl Read for Drops {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let at_most = into.len().min(1);
            self.0.read(&mut into[..at_most])
        }
    }

    fn read(archive: Vec<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut opened = open(&Drops(Cursor::new(archive))).unwrap();
        opened.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_archive_is_read_the_same_compressed_or_not() {
        let plain = vec![b'a'; 1 << 20];
        let packed = zstd::encode_all(plain.as_slice(), 1).unwrap();
        assert!(packed.len() < 1_000);
        assert_eq!(read(packed), plain);
        assert_eq!(read(plain.clone()), plain);
    }

    #[test]
    fn an_empty_archive_is_read_as_empty() {
        assert_eq!(read(Vec::new()), b"");
    }
}
