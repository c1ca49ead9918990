//! Names of runs on the command line: a number, or the newest one.

use std::str::FromStr;

use trainyard_api::{Client, RunSelection};
use trainyard_core::id::RunId;

use crate::failure::{Failure, Problem};
use crate::view::plain;

/// A run: `42` or `#42`; `latest`; or a DAG, for its newest run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunName {
    /// By its number.
    Number(RunId),
    /// The newest of all.
    Latest,
    /// The newest of a DAG.
    LatestOf(String),
}

impl FromStr for RunName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "/-_.".contains(letter);
        if let Ok(number) = text.parse() {
            Ok(Self::Number(number))
        } else if text == "latest" {
            Ok(Self::Latest)
        } else if !text.is_empty() && text.chars().all(is_name) {
            Ok(Self::LatestOf(text.to_owned()))
        } else {
            Err("expected a run's number, `latest`, or a DAG")
        }
    }
}

impl RunName {
    /// The run's number.
    pub(crate) async fn number(&self, client: &Client) -> Result<i64, Failure> {
        let dag = match self {
            Self::Number(run) => return Ok(run.0),
            Self::Latest => None,
            Self::LatestOf(dag) => Some(dag.clone()),
        };
        let query = RunSelection {
            dag: dag.clone(),
            limit: Some(1),
            ..RunSelection::default()
        };
        let newest = client.runs(&query).await?.items.into_iter().next();
        newest.map(|run| run.id).ok_or_else(|| {
            let (message, dag) = match &dag {
                Some(dag) => (format!("DAG `{}` has no runs", plain(dag)), dag.as_str()),
                None => ("there are no runs".to_owned(), "DAG"),
            };
            let help = format!("`trainyard dag trigger {}` starts one", plain(dag));
            Failure::NotFound(Problem::new(message).help(help))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_its_number_as_latest_or_by_its_dag() {
        let name = |text: &str| text.parse::<RunName>();
        assert_eq!(name("42"), Ok(RunName::Number(RunId(42))));
        assert_eq!(name("#42"), Ok(RunName::Number(RunId(42))));
        assert_eq!(name("latest"), Ok(RunName::Latest));
        let dag = RunName::LatestOf("model/churn".to_owned());
        assert_eq!(name("model/churn"), Ok(dag));
        assert!(name("two words").is_err());
        assert!(name("").is_err());
    }
}
