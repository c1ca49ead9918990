//! Files that only their owner may write, and for some also read: keys, tokens, and the address of a daemon.
//!
//! A file is checked after it was opened, so that it cannot be replaced between the check and the read.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::{ELOOP, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;

/// The largest file that is read here, in bytes.
const AT_MOST: u64 = 64 * 1024;

/// What other users may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Nothing: it contains a secret.
    Nothing,
    Read,
}

/// Whether a link is followed to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Yes: an operator gave the path.
    Followed,
    /// No: the path is one of ours, and Trainyard makes no links.
    Refused,
}

/// Reads a file of ours.
///
/// # Errors
/// The file is missing, a link, not a regular file, another user's, open to others, too long, or not text.
pub(crate) fn read(
    path: &Path,
    others: Others,
    links: Links,
    owners: &[u32],
) -> io::Result<String> {
    let file = open(path, others, links, owners)?;
    let mut text = String::new();
    let length = file
        .take(AT_MOST + 1)
        .read_to_string(&mut text)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => io::Error::other("it is not text"),
            _ => error,
        })?;
    if length as u64 > AT_MOST {
        return Err(io::Error::other(format!(
            "it is longer than {AT_MOST} bytes"
        )));
    }
    Ok(text)
}

/// The trusted owners of our files: the daemon's user, and root.
pub(crate) fn owners() -> [u32; 2] {
    [geteuid().as_raw(), 0]
}

fn open(path: &Path, others: Others, links: Links, owners: &[u32]) -> io::Result<File> {
    // Without O_NONBLOCK, opening a fifo that has no writer would block.
    let flags = match links {
        Links::Followed => O_NONBLOCK,
        Links::Refused => O_NONBLOCK | O_NOFOLLOW,
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(ELOOP) => io::Error::other("it is a symbolic link"),
            _ => error,
        })?;
    judge(&file.metadata()?, others, owners).map_err(io::Error::other)?;
    Ok(file)
}

fn judge(found: &Metadata, others: Others, owners: &[u32]) -> Result<(), String> {
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if !owners.contains(&found.uid()) {
        return Err(format!(
            "it belongs to another user ({}), and this is {}",
            found.uid(),
            geteuid()
        ));
    }
    let open = match others {
        Others::Nothing => found.mode() & 0o077,
        Others::Read => found.mode() & 0o022,
    };
    if open != 0 {
        let (may, mode) = match others {
            Others::Nothing => ("read", "600"),
            Others::Read => ("change", "644"),
        };
        return Err(format!(
            "other users may {may} it (its mode is {:03o}); run `chmod {mode}` on it, and replace its content if \
             another user may have done so",
            found.mode() & 0o777
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "text\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (place, path)
    }

    #[track_caller]
    fn refused(path: &Path, others: Others, links: Links, word: &str) {
        let error = read(path, others, links, &owners())
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn what_others_may_read_or_change_is_refused_with_what_to_do() {
        for (mode, others, word) in [
            (0o640, Others::Nothing, "chmod 600"),
            (0o604, Others::Nothing, "chmod 600"),
            (0o620, Others::Read, "chmod 644"),
            (0o646, Others::Read, "chmod 644"),
        ] {
            let (_place, path) = file(mode);
            refused(&path, others, Links::Refused, word);
        }
        let (_place, path) = file(0o600);
        assert_eq!(
            read(&path, Others::Nothing, Links::Refused, &owners()).unwrap(),
            "text\n"
        );
        let (_place, path) = file(0o644);
        assert_eq!(
            read(&path, Others::Read, Links::Refused, &owners()).unwrap(),
            "text\n"
        );
    }

    #[test]
    fn a_link_is_followed_only_where_an_operator_named_it() {
        let (place, path) = file(0o600);
        let link = place.path().join("link");
        symlink(&path, &link).unwrap();
        refused(&link, Others::Nothing, Links::Refused, "symbolic link");
        assert!(read(&link, Others::Nothing, Links::Followed, &owners()).is_ok());
    }

    #[test]
    fn a_fifo_a_folder_and_a_device_are_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let fifo = place.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        refused(&fifo, Others::Nothing, Links::Refused, "regular file");
        refused(
            place.path(),
            Others::Nothing,
            Links::Followed,
            "regular file",
        );
        refused(
            Path::new("/dev/zero"),
            Others::Read,
            Links::Followed,
            "regular file",
        );
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let (_place, path) = file(0o600);
        let error = read(&path, Others::Nothing, Links::Refused, &[4_000_001]).unwrap_err();
        assert!(error.to_string().contains("another user"), "{error}");
    }

    #[test]
    fn what_is_far_too_long_is_not_read() {
        let (_place, path) = file(0o600);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        refused(&path, Others::Nothing, Links::Refused, "longer than");
    }
}
