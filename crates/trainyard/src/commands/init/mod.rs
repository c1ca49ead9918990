//! `trainyard init`

mod template;

use std::path::{Path, PathBuf};

use clap::Args;
use trainyard_dagfile::json_schema;

use self::template::Template;
use crate::failure::{Done, Failure, Problem};
use crate::output;

/// Write a first repository: DAG files and the files that they need
///
/// Includes the JSON Schema of DAG files, which editors find by the first line of each file. Existing files are never
/// overwritten.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The template
    #[arg(value_enum)]
    template: Template,

    /// The folder to write to
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Init {
    pub(crate) fn call(self) -> Done {
        let files = self.template.files();
        let place = |path: &str| self.folder.join(path);
        let taken: Vec<String> = files
            .iter()
            .map(|(path, _)| place(path))
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| path.display().to_string())
            .collect();
        if !taken.is_empty() {
            let problem = Problem::new(format!("{} already exists", taken.join(", ")));
            return Err(Failure::Usage(problem.help("name another folder")));
        }
        // A folder that is a link leads out of the given folder.
        let folders = files
            .iter()
            .flat_map(|(path, _)| Path::new(path).ancestors());
        let link = folders
            .filter(|folder| !folder.as_os_str().is_empty())
            .map(|folder| self.folder.join(folder))
            .find(|folder| folder.is_symlink());
        if let Some(link) = link {
            let problem = Problem::new(format!("{} is a symbolic link", link.display()));
            return Err(Failure::Usage(problem.help("name another folder")));
        }
        for (path, text) in files {
            let is_dag = path.starts_with("dags/");
            let text = format!("{}{text}", if is_dag { MODELINE } else { "" });
            save(&place(path), &text)?;
        }
        // The schema serves all DAG files of the repository, including those of an earlier template.
        let schema = place("dags/schema.json");
        if schema.symlink_metadata().is_err() {
            save(&schema, &format!("{:#}\n", json_schema()))?;
        }
        let enter = match self.folder.as_path() {
            here if here == Path::new(".") => String::new(),
            folder => format!("cd {} && ", shell_word(folder)),
        };
        output::note(&format!("try it: {enter}{}", self.template.what_next()));
        Ok(())
    }
}

/// The comment that points editors to the schema.
const MODELINE: &str = "# yaml-language-server: $schema=schema.json\n";

fn save(path: &Path, text: &str) -> Done {
    write(path, text).map_err(|error| Failure::file(path, "written", &error))?;
    output::text(&format!("wrote {}", path.display()))?;
    Ok(())
}

/// A path as a word of a command line.
fn shell_word(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-~+".contains(letter);
    match path.chars().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // A file that has appeared in the meantime is not overwritten either.
    let mut file = std::fs::File::create_new(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}
