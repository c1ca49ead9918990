//! Names the sockets in the folder of outputs: Docker leaves them out of what it copies, without an error.

use crate::search::value;
use crate::system::{self, O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, Text};

/// The deepest folders that are read, and the most entries: this is for a hint only, and the end waits for it.
const DEEPEST: usize = 16;
const ENTRIES_AT_MOST: usize = 200_000;

/// The most sockets that are named.
const NAMED_AT_MOST: usize = 10;

/// The kinds of entries, as `getdents64` has them.
const FOLDER: u8 = 4;
const SOCKET: u8 = 12;

/// Where in such an entry its length, its kind and its name are.
const LENGTH_AT: usize = 16;
const KIND_AT: usize = 18;
const NAME_AT: usize = 19;

const FLAGS: usize = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;

/// Names the sockets below `$OUTPUTS` on `fd`.
///
/// # Safety
/// The list ends with a null.
pub unsafe fn say(fd: i32, environment: *const Text) {
    // SAFETY: the caller's promise; what follows `=` in a variable ends with a zero byte, too.
    let Some(outputs) = (unsafe { value(environment, b"OUTPUTS=") }) else {
        return;
    };
    if let Ok(folder) = system::open(outputs.as_ptr(), FLAGS, 0) {
        let mut search = Search {
            fd,
            entries: 0,
            named: 0,
        };
        search.look_into(folder, None, 0);
        system::close(folder);
    }
}

struct Search {
    fd: i32,
    entries: usize,
    named: usize,
}

impl Search {
    /// Reads a folder at this path.
    fn look_into(&mut self, folder: i32, path: Option<&Path<'_>>, depth: usize) {
        let mut buffer = [0_u8; 2048];
        while let Ok(filled @ 1..) = system::entries(folder, &mut buffer) {
            let mut rest = buffer.get(..filled).unwrap_or_default();
            while let Some((kind, name, behind)) = entry(rest) {
                rest = behind;
                self.entries += 1;
                if self.entries > ENTRIES_AT_MOST {
                    return;
                }
                let path = Path { above: path, name };
                match kind {
                    SOCKET => self.name(&path),
                    FOLDER if name != b"." && name != b".." && depth < DEEPEST => {
                        if let Ok(inner) = system::open_in(folder, name.as_ptr(), FLAGS) {
                            self.look_into(inner, Some(&path), depth + 1);
                            system::close(inner);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn name(&mut self, path: &Path<'_>) {
        self.named += 1;
        if self.named <= NAMED_AT_MOST {
            system::write(self.fd, b"trainyard: `$OUTPUTS");
            path.write(self.fd);
            system::write(
                self.fd,
                b"` is a socket and is not kept: outputs hold files, folders and links among them\n",
            );
        }
    }
}

/// The names of an entry and of the folders above it.
struct Path<'a> {
    above: Option<&'a Path<'a>>,
    name: &'a [u8],
}

impl Path<'_> {
    fn write(&self, fd: i32) {
        if let Some(above) = self.above {
            above.write(fd);
        }
        system::write(fd, b"/");
        system::write(fd, self.name);
    }
}

/// The kind and the name of the first entry, and what is behind it.
fn entry(entries: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let length = entries.get(LENGTH_AT..LENGTH_AT + 2)?;
    let length = usize::from(u16::from_ne_bytes([*length.first()?, *length.get(1)?]));
    let (entry, behind) = entries.split_at_checked(length)?;
    let name = entry.get(NAME_AT..)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    Some((*entry.get(KIND_AT)?, name.get(..end)?, behind))
}
