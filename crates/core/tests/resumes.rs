//! Runs that are resumed with other code: which results they reuse, and which stages run again.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use trainyard_core::again::Earlier;
use trainyard_core::cause::Again;
use trainyard_core::dag::Dag;
use trainyard_core::expression::{Condition, Template};
use trainyard_core::run::Run;
use trainyard_core::stage::{Command, Stage};

use crate::generate::draft::{after, dag_of, named, run_of};
use crate::world::{How, World};

/// `extract`, then `train`, then `serve`; and `lint` apart from them.
fn stages() -> Vec<Stage> {
    vec![
        named("extract"),
        after("train", &["extract"]),
        after("serve", &["train"]),
        named("lint"),
    ]
}

/// A run of them that succeeded.
fn succeeded(stages: Vec<Stage>) -> World {
    let mut earlier = World::new(Rc::new(dag_of(stages, |_| {})), 42);
    earlier.settle(&[How::WELL], 9).expect("a fair end");
    earlier
}

/// The stages whose results a run reuses, in the order of the file.
fn taken_over(dag: &Dag, run: &Run) -> Vec<String> {
    dag.stages()
        .iter()
        .zip(&run.stages)
        .filter(|(_, stage)| stage.reused_from.is_some())
        .map(|(declared, _)| declared.name.to_string())
        .collect()
}

/// The stages whose results are reused when a run is resumed with these stages instead.
fn resumed(stages: Vec<Stage>) -> Vec<String> {
    let earlier = succeeded(self::stages());
    let dag = dag_of(stages, |_| {});
    let facts = run_of(&dag, 43).facts;
    let run = Run::again(
        &dag,
        facts,
        &earlier.to_retry(&Again::FromFailed),
        earlier.now,
    );
    taken_over(&dag, &run)
}

#[test]
fn a_changed_stage_runs_again_with_all_after_it_and_the_others_are_taken_over() {
    let changes: [fn(&mut Stage); 4] = [
        |stage| stage.program_mut().command = Some(Command::Script("false".to_owned())),
        |stage| {
            let value = Template::literal("1");
            stage
                .program_mut()
                .env
                .insert("FAST".parse().unwrap(), value);
        },
        |stage| stage.condition = Some(Condition::parse("cause.branch == 'main'").unwrap()),
        |stage| stage.program_mut().secrets = BTreeSet::from(["DSN".parse().unwrap()]),
    ];
    for change in changes {
        let mut stages = stages();
        change(&mut stages[1]);
        assert_eq!(resumed(stages), ["extract", "lint"]);
    }
}

#[test]
fn a_stage_that_knows_its_commit_or_branch_runs_again_where_that_is_another_one() {
    let stages = || {
        let mut stages = stages();
        let value = Template::parse("${{ cause.commit }}").unwrap();
        stages[3]
            .program_mut()
            .env
            .insert("REVISION".parse().unwrap(), value);
        stages
    };
    let earlier = succeeded(stages());
    let dag = dag_of(stages(), |_| {});
    let taken_over = |commit: &str, branch: Option<&str>| {
        let mut facts = earlier.run.facts.clone();
        facts.commit = commit.to_owned();
        facts.branch = branch.map(ToOwned::to_owned);
        let run = Run::again(
            &dag,
            facts,
            &earlier.to_retry(&Again::FromFailed),
            earlier.now,
        );
        taken_over(&dag, &run)
    };
    let facts = &earlier.run.facts;
    let branch = facts.branch.as_deref();
    let all = ["extract", "train", "serve", "lint"];
    assert_eq!(taken_over(&facts.commit, branch), all);
    assert_eq!(taken_over("another", branch), all[..3]);
    assert_eq!(taken_over(&facts.commit, Some("another")), all[..3]);
}

#[test]
fn limits_of_a_stage_may_change_and_its_result_stands() {
    let mut stages = stages();
    stages[0].program_mut().timeout = Some(Duration::from_secs(60));
    stages[0].program_mut().retry.attempts = 3;
    stages[0].program_mut().resources.memory = Some(1 << 30);
    assert_eq!(resumed(stages), ["extract", "train", "serve", "lint"]);
}

#[test]
fn stages_are_found_by_their_names_whatever_stands_before_them() {
    let mut stages = stages();
    stages.insert(0, named("check"));
    stages.remove(4);
    assert_eq!(resumed(stages), ["extract", "train", "serve"]);
}

#[test]
fn what_comes_after_a_new_stage_runs_again() {
    let mut stages = stages();
    stages.push(named("check"));
    stages[1].needs.push("check".parse().unwrap());
    assert_eq!(resumed(stages), ["extract", "lint"]);
}

#[test]
fn a_stage_whose_dockerfile_changed_runs_again() {
    let earlier = succeeded(stages());
    let rebuilt = BTreeSet::from(["train".parse().unwrap()]);
    let resumed = Earlier {
        rebuilt: &rebuilt,
        ..earlier.to_retry(&Again::FromFailed)
    };
    assert!(resumed.leaves_work(&earlier.dag));
    let facts = run_of(&earlier.dag, 43).facts;
    let run = Run::again(&earlier.dag, facts, &resumed, earlier.now);
    assert_eq!(taken_over(&earlier.dag, &run), ["extract", "lint"]);
}

#[test]
fn a_condition_is_evaluated_again_at_another_branch_or_commit_where_it_asks_for_the_cause() {
    let mut stages = stages();
    stages[3].condition = Some(Condition::parse("cause.branch == 'main'").unwrap());
    stages[2].condition = Some(Condition::parse("stages.train.outcome == 'succeeded'").unwrap());
    let earlier = succeeded(stages);
    let again = |branch: &str, commit: &str| {
        let mut facts = run_of(&earlier.dag, 43).facts;
        facts.branch = Some(branch.to_owned());
        facts.commit = commit.to_owned();
        let retry = earlier.to_retry(&Again::FromFailed);
        let run = Run::again(&earlier.dag, facts, &retry, earlier.now);
        taken_over(&earlier.dag, &run)
    };
    let commit = &earlier.run.facts.commit;
    assert_eq!(again("main", commit), ["extract", "train", "serve", "lint"]);
    assert_eq!(again("fix", commit), ["extract", "train", "serve"]);
    assert_eq!(again("main", "another"), ["extract", "train", "serve"]);
}

#[test]
fn a_run_that_succeeded_leaves_work_only_where_its_stages_have_changed() {
    let earlier = succeeded(stages());
    let retry = earlier.to_retry(&Again::FromFailed);
    assert!(!retry.leaves_work(&earlier.dag));
    let mut changed = stages();
    changed[1].program_mut().command = None;
    assert!(retry.leaves_work(&dag_of(changed, |_| {})));
    assert!(earlier.to_retry(&Again::All).leaves_work(&earlier.dag));
}
