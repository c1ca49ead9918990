//! The secrets that must be set before an attempt's container is created.
//!
//! They are those of its own stage. Before anything of its run has started, also those of every stage that is sure to
//! run: a run must not train for hours and then fail because the last stage's secret is missing.

use std::collections::BTreeMap;

use trainyard_core::ahead::{has_begun, sure_to_run};
use trainyard_core::dag::Dag;
use trainyard_core::name::{RepoName, SecretName, StageName};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::run::Run;
use trainyard_core::stage::StageIndex;
use trainyard_store::{StoredSecret, StoredSecrets};

/// Secrets, each with the stage that names it: the attempt's own if it does, else the first one.
pub(crate) struct NeededSecrets<'a> {
    own: &'a StageName,
    by_name: BTreeMap<SecretName, &'a StageName>,
}

impl<'a> NeededSecrets<'a> {
    /// The secrets of an attempt of `stage`.
    pub(crate) fn of(dag: &'a Dag, run: &Run, stage: StageIndex) -> Self {
        let own = dag.stage(stage);
        let mut by_name: BTreeMap<_, _> = own
            .program()
            .secrets
            .iter()
            .map(|name| (name.clone(), &own.name))
            .collect();
        if !has_begun(run) {
            for other in sure_to_run(dag, run) {
                let other = dag.stage(other);
                for name in &other.program().secrets {
                    by_name.entry(name.clone()).or_insert(&other.name);
                }
            }
        }
        Self {
            own: &own.name,
            by_name,
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &SecretName> {
        self.by_name.keys()
    }

    /// Why a run of `branch` may not start: all missing secrets, with the commands that set them.
    pub(crate) fn refusal(
        &self,
        found: &StoredSecrets,
        repo: &RepoName,
        branch: Option<&str>,
    ) -> Option<Reason> {
        let mut faults = Vec::new();
        let mut commands = Vec::new();
        for (name, stage) in &self.by_name {
            let whose = match *stage == self.own {
                true => String::new(),
                false => format!(" of stage {stage}"),
            };
            let set = format!("trainyard secret set {name} --repo {repo}");
            match found.by_name.get(name) {
                None => {
                    faults.push(format!("secret {name}{whose} is not set"));
                    commands.push(format!("`{set}`"));
                }
                Some(secret) => {
                    let followed = found.followed.as_deref();
                    if let Some(why) = denied(secret, branch, followed) {
                        faults.push(format!("secret {name}{whose} is not available {why}"));
                        // No pattern admits a run that has no branch.
                        if has_branch(branch) {
                            commands.push(format!("`{set} --branch PATTERN`"));
                        }
                    }
                }
            }
        }
        if faults.is_empty() {
            return None;
        }
        let mut message = faults.join("; ");
        if faults.len() > commands.len() {
            message.push_str(
                "; a run of a tag or a bare commit gets no secrets of branches: start it on a branch (`--ref BRANCH`)",
            );
        }
        if !commands.is_empty() {
            message.push_str(&format!("; run {}", commands.join(", ")));
        }
        Some(Reason::new(ReasonCode::MissingSecret, message))
    }
}

fn has_branch(branch: Option<&str>) -> bool {
    branch.is_some_and(|branch| !branch.is_empty())
}

/// Why a run of `branch` may not have a secret.
fn denied(secret: &StoredSecret, branch: Option<&str>, followed: Option<&str>) -> Option<String> {
    if secret.branches.admit(branch, followed) {
        return None;
    }
    let allowed = if secret.branches.patterns().next().is_none() {
        followed.map_or_else(|| secret.branches.to_string(), str::to_owned)
    } else {
        secret.branches.to_string()
    };
    let whose = branch.filter(|branch| !branch.is_empty()).map_or_else(
        || "for a run without a branch, such as of a tag or a commit".to_owned(),
        |branch| format!("on branch {branch}"),
    );
    Some(format!("{whose} (allowed: {allowed})"))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use trainyard_core::Timestamp;
    use trainyard_core::id::RunId;
    use trainyard_core::run::RunFacts;
    use trainyard_core::secret::SecretBranches;

    use super::*;

    const FILE: &str = "
params: {publish: {type: boolean, default: false}}
stages:
  extract: {image: \"alpine:3\", run: a, secrets: [DSN]}
  train: {needs: [extract], image: \"alpine:3\", run: a}
  upload: {needs: [train], image: \"alpine:3\", run: a, secrets: [BUCKET, DSN]}
  publish: {needs: [train], image: \"alpine:3\", run: a, secrets: [PYPI], if: params.publish}
  tell: {needs: [train], image: \"alpine:3\", run: a, secrets: [CHAT], run_on: [failed]}
  after: {needs: [publish], image: \"alpine:3\", run: a, secrets: [LATE]}
";

    /// The message for an attempt of a stage, with those secrets set.
    fn message(stage: &str, publish: bool, begun: bool, set: &[(&str, &[&str])]) -> String {
        message_of(Some("topic"), stage, publish, begun, set)
    }

    fn message_of(
        branch: Option<&str>,
        stage: &str,
        publish: bool,
        begun: bool,
        set: &[(&str, &[&str])],
    ) -> String {
        let dag = trainyard_dagfile::parse("dags/x.yaml", FILE).dag.unwrap();
        let params = dag.declared().params.keys().next().unwrap().clone();
        let facts = RunFacts {
            id: RunId(1),
            repo: None,
            dag: dag.name().clone(),
            cause: "manual".to_owned(),
            commit: String::new(),
            branch: branch.map(str::to_owned),
            logical_time: Timestamp::default(),
            params: [(params, trainyard_core::param::ParamValue::Boolean(publish))].into(),
        };
        let mut run = Run::new(&dag, facts);
        if begun {
            run.stages[0].image = Some("alpine".to_owned());
        }
        let found = StoredSecrets {
            followed: Some("main".to_owned()),
            by_name: set
                .iter()
                .map(|(name, branches)| {
                    let secret = StoredSecret {
                        value: SecretString::from("x"),
                        branches: SecretBranches::new(branches.iter().copied()).unwrap(),
                    };
                    (SecretName::new((*name).to_owned()).unwrap(), secret)
                })
                .collect(),
        };
        let stage = dag.index_of(stage).unwrap();
        let repo = RepoName::new("shop").unwrap();
        NeededSecrets::of(&dag, &run, stage)
            .refusal(&found, &repo, branch)
            .map(|reason| reason.message)
            .unwrap_or_default()
    }

    #[test]
    fn before_the_start_all_missing_secrets_are_reported_at_once_with_whole_commands() {
        assert_eq!(
            message("extract", false, false, &[]),
            "secret BUCKET of stage upload is not set; secret DSN is not set; run `trainyard secret set BUCKET \
             --repo shop`, `trainyard secret set DSN --repo shop`"
        );
        assert_eq!(
            message("extract", false, false, &[("BUCKET", &["*"]), ("DSN", &[])]),
            "secret DSN is not available on branch topic (allowed: main); run `trainyard secret set DSN --repo shop \
             --branch PATTERN`"
        );
        let all: [(&str, &[&str]); 2] = [("BUCKET", &["*"]), ("DSN", &["*"])];
        assert_eq!(message("extract", false, false, &all), "");
    }

    #[test]
    fn a_run_without_a_branch_is_sent_to_one_and_not_to_a_pattern() {
        assert_eq!(
            message_of(None, "extract", false, false, &[("DSN", &["*"])]),
            "secret BUCKET of stage upload is not set; secret DSN is not available for a run without a branch, \
             such as of a tag or a commit (allowed: *); a run of a tag or a bare commit gets no secrets of branches: start it on a \
             branch (`--ref BRANCH`); run `trainyard secret set BUCKET --repo shop`"
        );
    }

    #[test]
    fn a_stage_that_may_not_run_keeps_nothing_from_starting() {
        let set: [(&str, &[&str]); 2] = [("BUCKET", &["*"]), ("DSN", &["*"])];
        let message = message("extract", true, false, &set);
        assert!(
            message.contains("PYPI of stage publish") && message.contains("LATE of stage after"),
            "{message}"
        );
        assert!(!message.contains("CHAT"), "{message}");
    }

    #[test]
    fn once_something_has_started_each_stage_answers_for_itself() {
        assert_eq!(message("train", false, true, &[]), "");
        assert!(message("upload", false, true, &[]).starts_with("secret BUCKET is not set"));
    }
}
