//! The templates of `trainyard init`: examples from `dags/`, which the tests run.

use clap::ValueEnum;

/// A path in the new repository, and the text of the file.
type File = (&'static str, &'static str);

/// A template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Template {
    /// The smallest DAG: one stage that says hello
    Hello,
    /// A model that is trained again on a push and every month, checked by a gate, and released
    Retrain,
}

macro_rules! retrain {
    ($($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../../../dags/retrain/", $path)))),*]
    };
}

const HELLO: &[File] = &[(
    "dags/hello.yaml",
    include_str!("../../../../../dags/hello.yaml"),
)];

const RETRAIN: &[File] = retrain! {
    ".gitignore"
    "README.md"
    "dags/retrain.yaml"
    "data/specimens.csv"
    "image/Dockerfile"
    "image/requirements.txt"
    "model.toml"
    "src/evaluate.py"
    "src/extract.py"
    "src/release.py"
    "src/stage.py"
    "src/train.py"
    "src/transform.py"
    "src/warehouse.py"
};

impl Template {
    /// Its files.
    pub(super) const fn files(self) -> &'static [File] {
        match self {
            Self::Hello => HELLO,
            Self::Retrain => RETRAIN,
        }
    }

    /// The next step, from within the folder of the files.
    pub(super) const fn what_next(self) -> &'static str {
        match self {
            Self::Hello => "trainyard exec dags/hello.yaml",
            Self::Retrain => "trainyard exec dags/retrain.yaml; README.md says more",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_template_needs_a_secret() {
        for (path, text) in Template::value_variants().iter().flat_map(|t| t.files()) {
            if !path.starts_with("dags/") {
                continue;
            }
            let dag = trainyard_dagfile::parse(path, text).dag.expect(path);
            for stage in dag.stages() {
                assert!(stage.program().secrets.is_empty(), "{path}: {}", stage.name);
            }
        }
    }

    fn walk(folder: &Path, below: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "__pycache__" {
                walk(&path, below, found);
            } else if path.is_file() {
                found.insert(path.strip_prefix(below).unwrap().display().to_string());
            }
        }
    }

    #[test]
    fn the_retrain_template_has_every_file_of_the_example() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dags/retrain");
        let mut there = BTreeSet::new();
        walk(&folder, &folder, &mut there);
        let kept: BTreeSet<String> = RETRAIN.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(kept, there);
    }
}
