//! Reads source trees: tar archives, compressed by zstd or not.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use zstd::Decoder;

/// The first bytes of zstd. No tar archive begins with them: a name in their place would end at a slash or null byte.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How much is read from the disk at once.
const AT_ONCE: usize = 128 * 1024;

/// A source tree's archive, to be read.
pub(crate) type Source = Box<dyn Read + Send>;

/// Opens the archive of a source tree.
///
/// # Errors
/// It cannot be read.
pub(crate) fn open(path: &Path) -> io::Result<Source> {
    let mut file = File::open(path)?;
    let mut begin = Vec::new();
    file.by_ref()
        .take(MAGIC.len() as u64)
        .read_to_end(&mut begin)?;
    file.rewind()?;
    let file = BufReader::with_capacity(AT_ONCE, file);
    if begin == MAGIC {
        Ok(Box::new(BufReader::with_capacity(
            AT_ONCE,
            Decoder::with_buffer(file)?,
        )))
    } else {
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        open(path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_archive_is_read_the_same_compressed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let plain = vec![b'a'; 1 << 20];
        let (as_is, packed) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&as_is, &plain).unwrap();
        std::fs::write(&packed, zstd::encode_all(plain.as_slice(), 1).unwrap()).unwrap();
        assert!(std::fs::metadata(&packed).unwrap().len() < 1_000);
        assert_eq!(read(&as_is), plain);
        assert_eq!(read(&packed), plain);
    }

    #[test]
    fn an_empty_archive_is_read_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "").unwrap();
        assert_eq!(read(&path), b"");
    }
}
