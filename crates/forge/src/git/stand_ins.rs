//! What a source tree has only stand-ins for: files of Git LFS and submodules.
//!
//! A program that gets them works on 130 bytes of text instead of its data, or on an empty folder instead of a
//! library, and fails far from the cause, or does not fail. So whoever looks at a stage is told.

use serde::{Deserialize, Serialize};

/// How many names are said.
const NAMED: usize = 3;

/// The stand-ins in one source tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StandIns {
    /// Files of Git LFS.
    pub pointers: Named,
    /// Submodules.
    pub submodules: Named,
}

/// Some paths by name, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Named {
    names: Vec<String>,
    count: usize,
}

impl Named {
    pub(super) fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < NAMED {
            self.names.push(name.to_owned());
        }
    }
}

impl StandIns {
    /// Each kind in words.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let kinds = [
            (
                &self.pointers,
                "is a pointer of Git LFS: its content is not in the source tree (`checkout: {lfs: true}` fetches it)",
                "files are pointers of Git LFS: their contents are not in the source tree (`checkout: {lfs: true}` fetches them)",
            ),
            (
                &self.submodules,
                "is a git submodule: its folder in the source tree is empty (`checkout: {submodules: true}` fetches it)",
                "folders are git submodules: they are empty in the source tree (`checkout: {submodules: true}` fetches them)",
            ),
        ];
        let found = kinds.into_iter().filter(|(named, ..)| named.count > 0);
        found
            .map(|(named, is, are)| match named.names.as_slice() {
                [name] => format!("{name} {is}"),
                names => {
                    let rest = if named.count > NAMED { ", …" } else { "" };
                    format!("{} {are}: {}{rest}", named.count, names.join(", "))
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_named_and_of_many_some_are() {
        let mut stand_ins = StandIns::default();
        assert_eq!(stand_ins.notes(), [""; 0]);
        stand_ins.submodules.add("vendor/library");
        for file in ["a.bin", "b.bin", "c.bin", "d.bin"] {
            stand_ins.pointers.add(file);
        }
        assert_eq!(
            stand_ins.notes(),
            [
                "4 files are pointers of Git LFS: their contents are not in the source tree (`checkout: {lfs: true}` fetches \
                 them): a.bin, b.bin, c.bin, …",
                "vendor/library is a git submodule: its folder in the source tree is empty (`checkout: {submodules: true}` \
                 fetches it)",
            ]
        );
    }
}
