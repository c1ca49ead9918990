//! The DAG files of a commit, as text.

use super::objects::{Kind, Objects};
use super::{CommitSha, Error, Mirror};
use crate::one_line::one_line;

/// The folder, at the top of the repo, that DAG files are in.
const FOLDER: &str = "dags";

/// The largest DAG file, in bytes.
pub const MAX_DAG_FILE_BYTES: usize = 1 << 20;

/// How many DAG files of a commit are read.
pub const MAX_DAG_FILES: usize = 2_000;

/// How many bytes the DAG files of a commit may have together: all of them are in memory at once.
pub const MAX_DAG_BYTES: usize = 16 << 20;

/// Why a DAG file that is a symbolic link is refused.
pub const LINKED_DAG_FILE: &str = "it is a symbolic link; a DAG file is a file";

/// One DAG file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagFileText {
    /// Its path in the repo: `dags/churn.yaml`.
    pub path: String,
    /// Its text, or the reason why it cannot be read. Not parsed here.
    pub text: Result<String, String>,
}

impl Mirror {
    /// The files `dags/*.yaml` and `dags/*.yml` of a commit, by path. Folders within `dags` and files whose name
    /// begins with a dot are left out. A file that cannot be read is in the list with the reason; beyond
    /// [`MAX_DAG_FILES`] or [`MAX_DAG_BYTES`] one entry stands for all the rest.
    ///
    /// # Errors
    /// [`Error::UnknownReference`], [`Error::NotFetched`], [`Error::Corrupt`].
    pub fn dag_files(&self, commit: &CommitSha) -> Result<Vec<DagFileText>, Error> {
        let repository = self.open()?;
        let objects = Objects::of(&repository)?;
        let root = objects.tree(objects.root(commit)?)?;
        let Some(folder) = root
            .get_name(FOLDER)
            .filter(|entry| Kind::of(entry.filemode()) == Kind::Folder)
        else {
            return Ok(Vec::new());
        };
        let folder = objects.tree(folder.id())?;
        let (mut files, mut bytes) = (Vec::new(), 0);
        for entry in &folder {
            let kind = Kind::of(entry.filemode());
            if !is_dag_file(entry.name_bytes()) || matches!(kind, Kind::Folder | Kind::Submodule) {
                continue;
            }
            let name = one_line(&String::from_utf8_lossy(entry.name_bytes()), 200);
            let path = format!("{FOLDER}/{name}");
            let too_many = if files.len() == MAX_DAG_FILES {
                Some(format!("there are more than {MAX_DAG_FILES} DAG files"))
            } else if bytes > MAX_DAG_BYTES {
                let limit = MAX_DAG_BYTES >> 20;
                Some(format!(
                    "the DAG files before this one have more than {limit} MiB"
                ))
            } else {
                None
            };
            if let Some(limit) = too_many {
                let text = Err(format!("{limit}; this one and those after it are not read"));
                files.push(DagFileText { path, text });
                break;
            }
            let text = match (kind, entry.name()) {
                (Kind::Link, _) => Err(LINKED_DAG_FILE.to_owned()),
                (_, Err(_)) => Err("its name is not UTF-8".to_owned()),
                (_, Ok(_)) => read(&objects, entry.id())?,
            };
            bytes += text.as_ref().map_or(0, String::len);
            files.push(DagFileText { path, text });
        }
        Ok(files)
    }
}

/// Whether a file of this name in `dags/` is a DAG file.
#[must_use]
pub fn is_dag_file(name: &[u8]) -> bool {
    let is_yaml = name.ends_with(b".yaml") || name.ends_with(b".yml");
    is_yaml && !name.starts_with(b".") && !name.contains(&b'/')
}

fn read(objects: &Objects<'_>, id: git2::Oid) -> Result<Result<String, String>, Error> {
    let size = objects.file_size(id)?;
    if size > MAX_DAG_FILE_BYTES {
        let limit = MAX_DAG_FILE_BYTES >> 20;
        return Ok(Err(format!(
            "it has {size} bytes; a DAG file may have {limit} MiB"
        )));
    }
    let text = String::from_utf8(objects.file(id)?.data().to_vec());
    Ok(text.map_err(|error| {
        format!(
            "it is not UTF-8: the byte at offset {} is not",
            error.utf8_error().valid_up_to()
        )
    }))
}
