//! The build context: the part of a source tree that an image is built from, and its content key.
//!
//! The key is a hash over what can change the image: the files that the build sees with their modes
//! and links, the Dockerfile's path, arguments and target. Times and owners are left out, so the
//! same commit has the same key wherever it is checked out. What a `FROM` tag means today is not
//! part of it: an image is built again when its content changes, not when its base moves.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Archive, Builder, Entry, EntryType, Header};
use trainyard_core::stage::RelativePath;

use super::dockerignore::DockerIgnore;
use crate::contract::{Error, ErrorKind};
use crate::source::{self, Source};

/// The largest `.dockerignore` that is read, in bytes.
const IGNORE_LIMIT: u64 = 1024 * 1024;

/// What to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) source: PathBuf,
    pub(super) context: RelativePath,
    pub(super) dockerfile: RelativePath,
    pub(super) args: BTreeMap<String, String>,
    pub(super) target: Option<String>,
}

/// A recipe whose context was looked through.
#[derive(Debug, Clone)]
pub(super) struct Context {
    recipe: Recipe,
    ignore: DockerIgnore,
    /// SHA-256 over all that can change the image, in lower-case hex.
    pub(super) key: String,
}

impl Context {
    /// Looks through the source tree. Blocking.
    ///
    /// # Errors
    /// `ImageBuild` where the context or the Dockerfile is missing, `Storage`.
    pub(super) fn scan(recipe: Recipe) -> Result<Self, Error> {
        let (ignore, exists) = recipe
            .find_ignore()
            .map_err(|error| recipe.unreadable(&error))?;
        let wrong = |message| Err(Error::new(ErrorKind::ImageBuild, message));
        if !exists {
            return wrong(format!(
                "the source tree has no folder `{}` to build an image from",
                recipe.context
            ));
        }
        let mut context = Self {
            recipe,
            ignore,
            key: String::new(),
        };
        let mut members = BTreeMap::new();
        let scanned = context.each_member(|path, entry| {
            let digest = digest(entry)?;
            members.insert(path.to_owned(), digest);
            Ok(())
        });
        scanned.map_err(|error| context.recipe.unreadable(&error))?;
        if !members.contains_key(context.recipe.dockerfile.as_str()) {
            return wrong(format!(
                "there is no `{}` in the folder `{}` of the source tree",
                context.recipe.dockerfile, context.recipe.context
            ));
        }
        context.key = context.recipe.key(&members);
        Ok(context)
    }

    /// Writes the context as an archive. Blocking.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut archive = Builder::new(to);
        self.each_member(|path, entry| {
            let kind = entry.header().entry_type();
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(entry.header().mode().unwrap_or(0o644) & 0o777);
            header.set_mtime(entry.header().mtime().unwrap_or_default());
            header.set_size(0);
            match kind {
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name()?.unwrap_or_default().into_owned();
                    let target = match kind {
                        EntryType::Link => self.recipe.within(&target).unwrap_or(target),
                        _ => target,
                    };
                    archive.append_link(&mut header, path, target)
                }
                EntryType::Directory => archive.append_data(&mut header, path, io::empty()),
                _ => {
                    header.set_size(entry.size());
                    archive.append_data(&mut header, path, entry)
                }
            }
        })?;
        archive.into_inner()?.flush()
    }

    /// Calls for each file, folder and link that the build sees, with its path in the context.
    fn each_member(
        &self,
        mut call: impl FnMut(&str, &mut Entry<'_, Source>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut archive = self.recipe.open()?;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            if !matches!(
                kind,
                EntryType::Regular
                    | EntryType::Continuous
                    | EntryType::Directory
                    | EntryType::Symlink
                    | EntryType::Link
            ) {
                continue;
            }
            let path = entry.path()?.into_owned();
            let Some(path) = self.recipe.within(&path) else {
                continue;
            };
            let path = path.to_string_lossy();
            let needed = path == self.recipe.dockerfile.as_str() || path == ".dockerignore";
            if path.is_empty() || (!needed && self.ignore.ignores(&path)) {
                continue;
            }
            call(&path, &mut entry)?;
        }
        Ok(())
    }
}

impl Recipe {
    pub(super) fn open(&self) -> io::Result<Archive<Source>> {
        Ok(Archive::new(source::open(&self.source)?))
    }

    /// A member's path within the context; `None` where it lies outside.
    pub(super) fn within(&self, path: &Path) -> Option<PathBuf> {
        let path: PathBuf = path
            .strip_prefix("./")
            .unwrap_or(path)
            .components()
            .collect();
        if self.context.is_root() {
            return Some(path);
        }
        path.strip_prefix(self.context.as_str())
            .ok()
            .map(Path::to_owned)
    }

    /// The patterns of the context's `.dockerignore`, and whether there is a context at all.
    fn find_ignore(&self) -> io::Result<(DockerIgnore, bool)> {
        let mut exists = false;
        let mut text = String::new();
        for entry in self.open()?.entries()? {
            let entry = entry?;
            let Some(path) = self.within(&entry.path()?) else {
                continue;
            };
            exists = true;
            if path == Path::new(".dockerignore") {
                entry.take(IGNORE_LIMIT).read_to_string(&mut text)?;
            }
        }
        Ok((DockerIgnore::parse(&text), exists))
    }

    fn key(&self, members: &BTreeMap<String, [u8; 32]>) -> String {
        let mut hasher = Sha256::new();
        let mut add = |text: &[u8]| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        // To be changed when the same content is built in another way.
        add(b"trainyard build 1");
        add(self.dockerfile.as_str().as_bytes());
        add(self.target.as_deref().unwrap_or_default().as_bytes());
        add(&(self.args.len() as u64).to_le_bytes());
        for (name, value) in &self.args {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        for (path, digest) in members {
            add(path.as_bytes());
            add(digest);
        }
        hex::encode(hasher.finalize())
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        Error::new(
            ErrorKind::Storage,
            format!("the source tree could not be read from the daemon's disk: {error}"),
        )
    }
}

/// A digest over a member's kind, mode, link and content.
fn digest(entry: &mut Entry<'_, Source>) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    hasher.update([entry.header().entry_type().as_byte()]);
    let mode = entry.header().mode().unwrap_or_default() & 0o777;
    hasher.update(mode.to_le_bytes());
    if let Some(target) = entry.link_name_bytes() {
        hasher.update(&target);
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match entry.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn tree(folder: &Path, name: &str, files: &[(&str, &str, u64)]) -> PathBuf {
        let path = folder.join(name);
        let mut archive = Builder::new(File::create(&path).unwrap());
        for (name, content, mtime) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(*mtime);
            archive
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        archive.into_inner().unwrap();
        path
    }

    fn recipe(source: PathBuf, context: &str) -> Recipe {
        Recipe {
            source,
            context: RelativePath::new(context).unwrap(),
            dockerfile: RelativePath::new("Dockerfile").unwrap(),
            args: BTreeMap::new(),
            target: None,
        }
    }

    fn names(context: &Context) -> Vec<String> {
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn only_the_folder_and_what_is_not_ignored_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("README.md", "x", 1),
            ("train/Dockerfile", "FROM x", 1),
            ("train/.dockerignore", "*.csv\nDockerfile\n", 1),
            ("train/big.csv", "1,2", 1),
            ("train/src/a.py", "a", 1),
        ];
        let source = tree(folder.path(), "a", &files);
        let context = Context::scan(recipe(source, "train")).unwrap();
        assert_eq!(names(&context), ["Dockerfile", ".dockerignore", "src/a.py"]);
    }

    #[test]
    fn the_key_follows_the_content_and_not_times_order_or_ignored_files() {
        let folder = tempfile::tempdir().unwrap();
        let key = |name: &str, files: &[(&str, &str, u64)]| {
            Context::scan(recipe(tree(folder.path(), name, files), "."))
                .unwrap()
                .key
        };
        let base = [
            ("Dockerfile", "FROM x", 1),
            (".dockerignore", "*.log", 1),
            ("a", "1", 1),
        ];
        let first = key("first", &base);
        let moved = [
            ("a", "1", 9),
            (".dockerignore", "*.log", 9),
            ("Dockerfile", "FROM x", 9),
        ];
        assert_eq!(key("moved", &moved), first);
        let noise = [&base[..], &[("x.log", "noise", 1)]].concat();
        assert_eq!(key("noise", &noise), first);
        let changed = [base[0], base[1], ("a", "2", 1)];
        assert_ne!(key("changed", &changed), first);
        let mut other = recipe(tree(folder.path(), "args", &base), ".");
        other.args.insert("V".to_owned(), "1".to_owned());
        assert_ne!(Context::scan(other).unwrap().key, first);
    }

    #[test]
    fn a_missing_dockerfile_or_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let source = tree(folder.path(), "a", &[("src/a.py", "a", 1)]);
        let error = Context::scan(recipe(source.clone(), "src")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(
            error
                .message
                .contains("no `Dockerfile` in the folder `src`"),
            "{error}"
        );
        let error = Context::scan(recipe(source, "nowhere")).unwrap_err();
        assert!(error.message.contains("no folder `nowhere`"), "{error}");
    }
}
