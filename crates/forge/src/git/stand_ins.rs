//! Reports the stand-ins in a source tree: pointers of Git LFS and empty folders of submodules.
//!
//! A program that gets them works on 130 bytes of text instead of its data, or on an empty folder instead of a
//! library, and fails far from the cause, or does not fail. So they are shown with the stage.

use serde::{Deserialize, Serialize};

use super::lfs;

/// How many names are listed.
const NAMED: usize = 3;

/// The stand-ins in one source tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StandIns {
    pub pointers: Named,
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
    /// The longest file that may be a pointer of Git LFS, in bytes.
    pub const POINTER_LONGEST: u64 = lfs::LONGEST as u64;

    /// Adds a file of a work tree, if it is a pointer of Git LFS.
    pub fn look_at(&mut self, name: &str, content: &[u8]) {
        if lfs::is_pointer(content) {
            self.pointers.add(name);
        }
    }

    /// Adds a submodule of a work tree.
    pub fn add_submodule(&mut self, name: &str) {
        self.submodules.add(name);
    }

    /// A sentence for each kind, for the tree of a commit.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.in_words(
            "`checkout: {lfs: true}` fetches",
            "`checkout: {submodules: true}` fetches",
        )
    }

    /// A sentence for each kind, for a work tree that `exec` uses as it is.
    #[must_use]
    pub fn notes_of_work_tree(&self) -> Vec<String> {
        self.in_words(
            "`git lfs pull` fetches",
            "`exec` takes no files of submodules; on a daemon, `checkout: {submodules: true}` fetches",
        )
    }

    fn in_words(&self, to_pull: &str, to_fetch: &str) -> Vec<String> {
        let kinds = [
            (
                &self.pointers,
                "is a pointer of Git LFS: its content is not in the source tree",
                "files are pointers of Git LFS: their contents are not in the source tree",
                to_pull,
            ),
            (
                &self.submodules,
                "is a git submodule: its folder in the source tree is empty",
                "folders are git submodules: they are empty in the source tree",
                to_fetch,
            ),
        ];
        let found = kinds.into_iter().filter(|(named, ..)| named.count > 0);
        found
            .map(|(named, is, are, to_have)| match named.names.as_slice() {
                [name] => format!("{name} {is} ({to_have} it)"),
                names => {
                    let rest = if named.count > NAMED { ", …" } else { "" };
                    let names = names.join(", ");
                    format!("{} {are} ({to_have} them): {names}{rest}", named.count)
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
        let of_work_tree = stand_ins.notes_of_work_tree();
        assert!(
            of_work_tree[0].contains("(`git lfs pull` fetches them)"),
            "{of_work_tree:?}"
        );
    }
}
