//! The image that stages of the rig run in, made from this machine's static busybox: no registry and
//! no other engine is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's packages put it.
const PLACES: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// A root file system as a tar archive: busybox under all its names.
///
/// # Panics
/// When a static busybox is missing.
pub(crate) fn archive() -> Vec<u8> {
    root().into_inner().unwrap()
}

/// The same with one more file, which makes it another image.
///
/// # Panics
/// When a static busybox is missing.
pub(crate) fn archive_with(path: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = root();
    let mut header = header(tar::EntryType::Regular, 0o644);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content).unwrap();
    archive.into_inner().unwrap()
}

fn root() -> tar::Builder<Vec<u8>> {
    let busybox = busybox();
    let names = Command::new(&busybox).arg("--list").output().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for folder in ["bin", "etc", "proc", "sys", "dev", "root"] {
        add(&mut archive, folder, tar::EntryType::Directory, 0o755);
    }
    add(&mut archive, "tmp", tar::EntryType::Directory, 0o1777);
    archive
        .append_path_with_name(&busybox, "bin/busybox")
        .unwrap();
    for name in String::from_utf8_lossy(&names.stdout).lines() {
        if name != "busybox" {
            let mut header = header(tar::EntryType::Symlink, 0o777);
            archive
                .append_link(&mut header, format!("bin/{name}"), "busybox")
                .unwrap();
        }
    }
    archive
}

fn busybox() -> PathBuf {
    PLACES
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .expect("busybox-static; `make setup` installs it")
        .canonicalize()
        .unwrap()
}

fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, mode: u32) {
    archive
        .append_data(&mut header(kind, mode), path, std::io::empty())
        .unwrap();
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}
