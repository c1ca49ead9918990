//! Laying out an attempt's folder: source tree, inputs, the place for outputs.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::source;
use crate::spec::{AttemptSpec, InputKind};

/// Lays out what a spec asks for below `to`.
pub(super) fn lay_out(to: &Path, spec: &AttemptSpec) -> io::Result<()> {
    let workspace = to.join("workspace");
    fs::create_dir(&workspace)?;
    if let Some(source) = &spec.source {
        tar::Archive::new(source::open(source)?).unpack(&workspace)?;
    }
    let inputs = to.join("inputs");
    fs::create_dir(&inputs)?;
    for input in &spec.inputs {
        let to = inputs.join(input.name.as_str());
        match input.kind {
            InputKind::File => {
                fs::copy(&input.path, &to)?;
            }
            InputKind::Folder => {
                fs::create_dir(&to)?;
                unpack(&input.path, &to)?;
            }
        }
        change_modes(&to, |mode| mode & !0o222)?;
    }
    fs::create_dir(to.join("outputs"))
}

/// Makes a tree's folders writable for their owner, so that it can be removed.
pub(super) fn make_writable(path: &Path) -> io::Result<()> {
    change_modes(path, |mode| mode | 0o700)
}

/// Unpacks an archive; nothing in it can lead out of the folder.
fn unpack(archive: &Path, to: &Path) -> io::Result<()> {
    let file = BufReader::with_capacity(128 * 1024, File::open(archive)?);
    let mut archive = tar::Archive::new(file);
    // Its times are zero, which a zip file cannot hold.
    archive.set_preserve_mtime(false);
    archive.unpack(to)
}

/// Changes the modes of a tree, its top included. Links are left alone.
fn change_modes(path: &Path, change: fn(u32) -> u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Ok(());
    }
    let mode = found.permissions().mode();
    let set = || fs::set_permissions(path, Permissions::from_mode(change(mode)));
    if !found.is_dir() {
        return set();
    }
    // A folder that is being closed is entered first, one that is being opened afterwards.
    let opens = change(mode) & 0o700 == 0o700;
    if opens {
        set()?;
    }
    for entry in fs::read_dir(path)? {
        change_modes(&entry?.path(), change)?;
    }
    if opens { Ok(()) } else { set() }
}
