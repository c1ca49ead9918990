//! The build context: the part of a source tree from which an image is built, and its content key.
//!
//! The key is a hash over all that can change the image: the files that the build sees with their modes and links,
//! the Dockerfile's path, arguments and target. Times and owners are left out, so the same commit has the same key
//! wherever it is checked out. The current image of a `FROM` tag is not part of it: an image is built again when
//! its content changes, not when its base moves.
//!
//! A stranger may have pushed the tree. So no name of it is kept in memory, the work on it ends soon after its caller
//! stops waiting, and matching its `.dockerignore` may only take a bounded time.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tar::{Archive, Builder, Entry, EntryType, Header};
use trainyard_core::stage::RelativePath;

use super::dockerignore::{self, DockerIgnore};
use super::layout::dated;
use crate::blob::Blob;
use crate::error::{Error, ErrorKind};
use crate::source::{self, Source};

/// How long matching all files against a `.dockerignore` may take.
const IGNORING_AT_MOST: Duration = Duration::from_secs(20);

/// Held by the caller who waits for the work on a context. Dropping it cancels that work.
#[derive(Debug, Default)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Wanted {
    /// The flag that the threads check.
    pub(super) fn given_up(&self) -> GivenUp {
        GivenUp(Arc::clone(&self.0))
    }
}

/// Whether the work was cancelled.
#[derive(Debug, Clone)]
pub(super) struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was cancelled"));
        }
        Ok(())
    }
}

/// A source tree whose reading stops once the work is cancelled.
pub(super) struct Watched(Source, GivenUp);

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.check()?;
        self.0.read(into)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) source: Arc<dyn Blob>,
    pub(super) context: RelativePath,
    pub(super) dockerfile: RelativePath,
    pub(super) args: BTreeMap<String, String>,
    pub(super) target: Option<String>,
}

/// A recipe whose context was scanned.
#[derive(Debug, Clone)]
pub(super) struct Context {
    recipe: Recipe,
    ignore: DockerIgnore,
    given_up: GivenUp,
    /// The text that is sent in place of the Dockerfile, if it was changed.
    pub(super) dockerfile: Option<Vec<u8>>,
    /// SHA-256 over all that can change the image, in lower-case hex.
    pub(super) key: String,
}

impl Context {
    /// Scans the source tree. Blocking.
    ///
    /// # Errors
    /// `ImageBuild` where the context or the Dockerfile is missing, `Storage`.
    pub(super) fn scan(recipe: Recipe, given_up: GivenUp) -> Result<Self, Error> {
        let (ignore, exists) = recipe
            .find_ignore(&given_up)
            .map_err(|error| recipe.unreadable(&error))?;
        let wrong = |message| Err(Error::new(ErrorKind::ImageBuild, message));
        if !exists {
            return wrong(format!(
                "the source tree has no folder `{}` to build an image from",
                recipe.context
            ));
        }
        let ignore = match DockerIgnore::parse(&ignore) {
            Ok(ignore) => ignore,
            Err(why) => {
                return wrong(format!(
                    "the `.dockerignore` in the folder `{}` of the source tree {why}",
                    recipe.context
                ));
            }
        };
        let mut context = Self {
            recipe,
            ignore,
            given_up,
            dockerfile: None,
            key: String::new(),
        };
        let mut members = Vec::new();
        let mut has_dockerfile = false;
        let scanned = context.each_member(|path, entry| {
            has_dockerfile |= path == context.recipe.dockerfile.as_str();
            members.push(digest(path, entry)?);
            Ok(())
        });
        scanned.map_err(|error| context.recipe.unreadable(&error))?;
        if !has_dockerfile {
            return wrong(format!(
                "there is no `{}` in the folder `{}` of the source tree",
                context.recipe.dockerfile, context.recipe.context
            ));
        }
        // Sorted, as archives may have them in any order.
        members.sort_unstable();
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
            header.set_mtime(dated(entry.header().mtime().unwrap_or_default()));
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
                _ if path == self.recipe.dockerfile.as_str() && self.dockerfile.is_some() => {
                    let text = self.dockerfile.as_deref().unwrap_or_default();
                    header.set_size(text.len() as u64);
                    archive.append_data(&mut header, path, text)
                }
                _ => {
                    header.set_size(entry.size());
                    archive.append_data(&mut header, path, entry)
                }
            }
        })?;
        archive.into_inner()?.flush()
    }

    /// Calls `call` for each file, folder and link that the build sees, with its path in the context.
    fn each_member(
        &self,
        mut call: impl FnMut(&str, &mut Entry<'_, Watched>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut archive = self.recipe.open(&self.given_up)?;
        let mut ignoring = Duration::ZERO;
        for entry in archive.entries()? {
            self.given_up.check()?;
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
            if path.is_empty() {
                continue;
            }
            let begun = Instant::now();
            let is_ignored = !needed && self.ignore.ignores(&path);
            ignoring += begun.elapsed();
            if ignoring > IGNORING_AT_MOST {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if is_ignored {
                continue;
            }
            call(&path, &mut entry)?;
        }
        Ok(())
    }
}

impl Recipe {
    pub(super) fn open(&self, given_up: &GivenUp) -> io::Result<Archive<Watched>> {
        let source = source::open(&*self.source)?;
        Ok(Archive::new(Watched(source, given_up.clone())))
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

    /// The context's `.dockerignore`, or that of the Dockerfile alone, and whether there is a context at all.
    fn find_ignore(&self, given_up: &GivenUp) -> io::Result<(String, bool)> {
        let own = format!("{}.dockerignore", self.dockerfile);
        let (mut exists, mut has_own) = (false, false);
        let mut bytes = Vec::new();
        for entry in self.open(given_up)?.entries()? {
            let entry = entry?;
            let Some(path) = self.within(&entry.path()?) else {
                continue;
            };
            exists = true;
            let is_own = path == Path::new(&own);
            if is_own || (path == Path::new(".dockerignore") && !has_own) {
                has_own |= is_own;
                bytes.clear();
                // One byte more than allowed shows that it is too large.
                entry
                    .take(dockerignore::LARGEST + 1)
                    .read_to_end(&mut bytes)?;
            }
        }
        Ok((String::from_utf8_lossy(&bytes).into_owned(), exists))
    }

    fn key(&self, members: &[[u8; 32]]) -> String {
        let mut hasher = Sha256::new();
        let mut add = |text: &[u8]| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        // Change this when the same content is to be built in another way.
        add(b"trainyard build 2");
        add(self.dockerfile.as_str().as_bytes());
        add(self.target.as_deref().unwrap_or_default().as_bytes());
        add(&(self.args.len() as u64).to_le_bytes());
        for (name, value) in &self.args {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        members.iter().for_each(|digest| add(digest));
        hex::encode(hasher.finalize())
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::TimedOut {
            let message = format!(
                "matching all files against the `.dockerignore` in the folder `{}` of the source tree takes more \
                 than {} s; make its rules simpler",
                self.context,
                IGNORING_AT_MOST.as_secs()
            );
            return Error::new(ErrorKind::ImageBuild, message);
        }
        Error::new(
            ErrorKind::Storage,
            format!("the source tree could not be read from the daemon's disk: {error}"),
        )
    }
}

/// A digest over a member's path, kind, mode, link and content.
fn digest(path: &str, entry: &mut Entry<'_, Watched>) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    hasher.update((path.len() as u64).to_le_bytes());
    hasher.update(path);
    hasher.update([entry.header().entry_type().as_byte()]);
    let mode = entry.header().mode().unwrap_or_default() & 0o777;
    hasher.update(mode.to_le_bytes());
    let target = entry.link_name_bytes().unwrap_or_default();
    hasher.update((target.len() as u64).to_le_bytes());
    hasher.update(&target);
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
    use super::*;
    use crate::blob::InMemory;

    fn tree(files: &[(&str, &str, u64)]) -> Arc<dyn Blob> {
        let mut archive = Builder::new(Vec::new());
        for (name, content, mtime) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(*mtime);
            archive
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        Arc::new(InMemory::from(archive.into_inner().unwrap()))
    }

    fn recipe(source: Arc<dyn Blob>, context: &str) -> Recipe {
        Recipe {
            source,
            context: RelativePath::new(context).unwrap(),
            dockerfile: RelativePath::new("Dockerfile").unwrap(),
            args: BTreeMap::new(),
            target: None,
        }
    }

    fn scan(recipe: Recipe) -> Result<Context, Error> {
        let wanted = Wanted::default();
        let scanned = Context::scan(recipe, wanted.given_up());
        // The caller still waits for the scan.
        std::mem::forget(wanted);
        scanned
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
        let files = [
            ("README.md", "x", 1),
            ("train/Dockerfile", "FROM x", 1),
            ("train/.dockerignore", "*.csv\nDockerfile\n", 1),
            ("train/big.csv", "1,2", 1),
            ("train/src/a.py", "a", 1),
        ];
        let source = tree(&files);
        let context = scan(recipe(source, "train")).unwrap();
        assert_eq!(names(&context), ["Dockerfile", ".dockerignore", "src/a.py"]);
    }

    #[test]
    fn a_dockerfile_may_have_a_dockerignore_of_its_own() {
        let files = [
            ("Dockerfile.dockerignore", "*.csv", 1),
            (".dockerignore", "*.txt", 1),
            ("Dockerfile", "FROM x", 1),
            ("a.csv", "1,2", 1),
            ("a.txt", "a", 1),
        ];
        let context = scan(recipe(tree(&files), ".")).unwrap();
        let names = names(&context);
        assert!(names.contains(&"a.txt".to_owned()), "{names:?}");
        assert!(!names.contains(&"a.csv".to_owned()), "{names:?}");
    }

    #[test]
    fn the_key_follows_the_content_and_not_times_order_or_ignored_files() {
        let key = |files: &[(&str, &str, u64)]| scan(recipe(tree(files), ".")).unwrap().key;
        let base = [
            ("Dockerfile", "FROM x", 1),
            (".dockerignore", "*.log", 1),
            ("a", "1", 1),
        ];
        let first = key(&base);
        let moved = [
            ("a", "1", 9),
            (".dockerignore", "*.log", 9),
            ("Dockerfile", "FROM x", 9),
        ];
        assert_eq!(key(&moved), first);
        let noise = [&base[..], &[("x.log", "noise", 1)]].concat();
        assert_eq!(key(&noise), first);
        let changed = [base[0], base[1], ("a", "2", 1)];
        assert_ne!(key(&changed), first);
        let mut other = recipe(tree(&base), ".");
        other.args.insert("V".to_owned(), "1".to_owned());
        assert_ne!(scan(other).unwrap().key, first);
    }

    #[test]
    fn a_missing_dockerfile_or_folder_is_named() {
        let source = tree(&[("src/a.py", "a", 1)]);
        let error = scan(recipe(source.clone(), "src")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ImageBuild);
        assert!(
            error
                .message
                .contains("no `Dockerfile` in the folder `src`"),
            "{error}"
        );
        let error = scan(recipe(source, "nowhere")).unwrap_err();
        assert!(error.message.contains("no folder `nowhere`"), "{error}");
    }

    #[test]
    fn class_12_work_on_a_tree_ends_once_its_caller_stops_waiting() {
        let source = tree(&[("Dockerfile", "FROM x", 1)]);
        let wanted = Wanted::default();
        let context = Context::scan(recipe(source.clone(), "."), wanted.given_up()).unwrap();
        let given_up = wanted.given_up();
        drop(wanted);
        assert!(context.write(&mut Vec::new()).is_err());
        assert!(Context::scan(recipe(source, "."), given_up).is_err());
    }

    #[test]
    fn class_12_a_dockerignore_beyond_its_bounds_is_reported_as_the_repo_s_fault() {
        for text in ["?".repeat(60_000), "#\n".repeat(500_000)] {
            let files = [("Dockerfile", "FROM x", 1), (".dockerignore", &*text, 1)];
            let error = scan(recipe(tree(&files), ".")).unwrap_err();
            assert_eq!(error.kind, ErrorKind::ImageBuild, "{error}");
            assert!(error.message.contains("the `.dockerignore` in"), "{error}");
            assert!(error.message.contains("permitted"), "{error}");
        }
    }
}
