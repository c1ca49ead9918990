//! The audit log: who changed what.

use std::time::Duration;

use serde_json::json;
use trainyard_api::{AuditEntry, TokenScope};
use trainyard_core::cause::{Again, CauseKind, RetryAt};
use trainyard_core::id::{DagId, DagVersionId, RepoId, RunId};
use trainyard_core::name::{RepoName, SecretName};
use trainyard_core::principal::AuditAction;
use trainyard_core::secret::SecretBranches;
use trainyard_store::{
    AuditFilter, CancelFilter, Error, GivingUp, NewRepo, NewRun, RepoChange, RepoCredentials,
    Retention,
};

use crate::kit::*;

const CANARY: &str = "canary-of-a-secret";

/// A store with a thing to change for each kind of change.
struct Changeable {
    place: Place,
    /// A repo without runs.
    empty: RepoId,
    dag: (DagId, DagVersionId),
    /// One that the followed branch does not have, without runs.
    gone: DagId,
    paused: DagId,
    /// Runs that are to be cancelled, that can be abandoned, and that has ended.
    waiting: RunId,
    overdue: RunId,
    ended: RunId,
    quarantine: i64,
}

fn secret(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

fn new_repo(name: &str) -> NewRepo {
    NewRepo {
        name: RepoName::new(name).unwrap(),
        url: "ssh://git@example.org/lab.git".into(),
        followed_branch: Some("main".into()),
        poll_every: Duration::from_secs(60),
        webhook_secret: Some(CANARY.into()),
        credentials: Some(RepoCredentials::SshKey {
            key: CANARY.into(),
            known_hosts: "example.org ssh-ed25519 A".into(),
        }),
    }
}

impl Changeable {
    async fn new() -> Self {
        let place = Place::new().await;
        let empty = add_repo(&place.store, "empty").await;
        let dag = place.dag(&chain("train", 1)).await;
        let ended = place.start(dag).await;
        finish(&place.store, &place.claim_one().await, good())
            .await
            .unwrap();
        let overdue = place.start(dag).await;
        let _ = place.claim_one().await;
        place.store.cancel_run(&ada(), overdue).await.unwrap();
        let waiting = place.start(dag).await;
        let (gone, _) = place.dag(&chain("gone", 1)).await;
        let (paused, _) = place.dag(&chain("paused", 1)).await;
        place.store.pause_dag(&ada(), paused, true).await.unwrap();
        let old = secret("OLD");
        place
            .store
            .set_secret(&ada(), place.repo, &old, &CANARY.into(), None)
            .await
            .unwrap();
        place
            .store
            .create_token(&ada(), "old", TokenScope::Read)
            .await
            .unwrap();
        place
            .sql(
                "update attempt set stop_requested_at = stop_requested_at - interval '1 day';
                 insert into quarantine (dag, place, reason, failures, first_at, last_at, held_at)
                    select id, 'scheduling', 'why', 1, now(), now(), now() from dag where name = 'paused';
                 delete from audit",
            )
            .await;
        let quarantine = place.store.quarantined().await.unwrap()[0].id;
        Self {
            empty,
            dag,
            gone,
            paused,
            waiting,
            overdue,
            ended,
            quarantine,
            place,
        }
    }

    fn retry(&self) -> NewRun {
        let mut new = manual(self.dag.0, self.dag.1, None);
        new.cause.kind = CauseKind::Retry {
            of: self.ended,
            again: Again::All,
            at: RetryAt::SameCommit { branch_head: None },
            request: None,
        };
        new
    }

    /// Makes a change of each kind; each succeeds once.
    async fn change(&self, action: AuditAction) -> Result<(), Error> {
        let (store, repo, act) = (&self.place.store, self.place.repo, &ada());
        match action {
            AuditAction::RepoAdd => store.add_repo(act, &new_repo("lab")).await.map(drop),
            AuditAction::RepoSet => {
                let login = RepoCredentials::Login {
                    username: "git".into(),
                    password: CANARY.into(),
                };
                let change = RepoChange {
                    followed_branch: Some(Some("next".into())),
                    webhook_secret: Some(CANARY.into()),
                    credentials: Some(Some(login)),
                    ..RepoChange::default()
                };
                let changed = store.change_repo(act, repo, FIRST_ADDRESS, &change);
                changed.await.map(drop)
            }
            AuditAction::RepoRemove => store.remove_repo(act, self.empty).await,
            AuditAction::DagTrigger => {
                let new = manual(self.dag.0, self.dag.1, None);
                store.start_run(act, &new).await.map(drop)
            }
            AuditAction::DagPause => store.pause_dag(act, self.dag.0, true).await,
            AuditAction::DagUnpause => store.pause_dag(act, self.paused, false).await,
            AuditAction::DagRemove => store.remove_dag(act, self.gone).await,
            AuditAction::RunCancel => store.cancel_run(act, self.waiting).await.map(drop),
            AuditAction::RunAbandon => {
                let giving_up = GivingUp {
                    by: act.clone(),
                    patience: Duration::from_secs(90),
                    gone: store.seen_gone(self.overdue).await?,
                };
                // The run as this store remembers it was asked to stop a moment ago.
                let store = self.place.another().await;
                store.abandon(self.overdue, giving_up).await.map(drop)
            }
            AuditAction::RunRetry => store.start_run(act, &self.retry()).await.map(drop),
            AuditAction::SecretSet => {
                let branches = SecretBranches::new(["main"]).unwrap();
                store
                    .set_secret(act, repo, &secret("DSN"), &CANARY.into(), Some(&branches))
                    .await
            }
            AuditAction::SecretRemove => store.remove_secret(act, repo, &secret("OLD")).await,
            AuditAction::TokenCreate => store
                .create_token(act, "new", TokenScope::Admin)
                .await
                .map(drop),
            AuditAction::TokenRevoke => store.revoke_token(act, "old").await,
            AuditAction::QuarantineRelease => {
                store.release_from_quarantine(act, self.quarantine).await
            }
            AuditAction::Gc => store.request_gc(act).await,
        }
    }

    async fn log(&self) -> Vec<AuditEntry> {
        listed(&self.place, AuditFilter::default()).await
    }
}

/// The entries that a filter selects, of the first hundred.
async fn listed(place: &Place, filter: AuditFilter) -> Vec<AuditEntry> {
    let filter = AuditFilter {
        limit: 100,
        ..filter
    };
    place.store.list_audit(&filter).await.unwrap()
}

/// An entry in a line, without its random ids.
fn line(entry: &AuditEntry) -> String {
    let mut detail = entry.detail.clone();
    detail.remove("id");
    let detail = json!(detail);
    let (subject, repo) = (entry.subject.as_deref(), entry.repo.as_deref());
    format!(
        "{} {} {} {detail}",
        entry.action,
        subject.unwrap_or("-"),
        repo.unwrap_or("-")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_change_has_its_entry_and_neither_is_there_without_the_other() {
    let things = Changeable::new().await;
    things
        .place
        .sql(
            "create function refuse() returns trigger language plpgsql as
                $$ begin raise exception 'the entry is refused at the commit'; end $$;
             create constraint trigger refuse after insert on audit
                deferrable initially deferred for each row execute function refuse()",
        )
        .await;
    for action in AuditAction::ALL {
        let before = things.place.everything().await;
        things
            .place
            .sql("alter table audit enable trigger refuse")
            .await;
        let refused = things.change(*action).await;
        assert!(refused.is_err(), "{action} is committed without its entry");
        assert_eq!(things.place.everything().await, before, "{action}");

        things
            .place
            .sql("alter table audit disable trigger refuse")
            .await;
        let known = things.log().await.len();
        things.change(*action).await.unwrap();
        let log = things.log().await;
        assert_eq!(log.len(), known + 1, "{action}");
        let entry = &log[0];
        assert_eq!(entry.action, action.as_str());
        assert_eq!(entry.by.kind, "token");
        assert_eq!(entry.by.name, "ada");
        assert_eq!(entry.by.id, uuid::Uuid::nil().to_string());
        assert_eq!(entry.peer.as_deref(), Some("192.0.2.1"));
    }
    let violations = things.place.store.check_invariants().await.unwrap();
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_says_what_changed_and_has_no_secret() {
    let things = Changeable::new().await;
    for action in AuditAction::ALL {
        things.change(*action).await.unwrap();
    }
    let log = things.log().await;
    let lines: Vec<String> = log.iter().rev().map(line).collect();
    let rows = "select string_agg(a::text, ' ') from audit a";
    assert!(
        !things.place.text(rows).await.contains(CANARY),
        "{lines:#?}"
    );
    let run = |number: i64| format!(r#"{{"commit":"{COMMIT}","dag":"shop/train","run":{number}}}"#);
    let of_train = r#"{"dag":"shop/train"}"#;
    assert_eq!(
        lines,
        [
            r#"repo.add lab lab {"branch":"main","credentials":"ssh_key","url":"ssh://git@example.org/lab.git","webhook_secret":true}"#.to_owned(),
            r#"repo.set shop shop {"branch":"next","credentials":"login","webhook_secret":true}"#.to_owned(),
            r#"repo.remove empty empty {"dags":0,"runs":0}"#.to_owned(),
            format!("dag.trigger shop/train shop {}", run(4)),
            "dag.pause shop/train shop {}".to_owned(),
            "dag.unpause shop/paused shop {}".to_owned(),
            r#"dag.remove shop/gone shop {"runs":0}"#.to_owned(),
            format!("run.cancel 3 shop {of_train}"),
            format!("run.abandon 2 shop {of_train}"),
            format!("run.retry 1 shop {}", run(5)),
            r#"secret.set DSN shop {"branches":["main"]}"#.to_owned(),
            "secret.remove OLD shop {}".to_owned(),
            r#"token.create new - {"scope":"admin"}"#.to_owned(),
            "token.revoke old - {}".to_owned(),
            r#"quarantine.release shop/paused shop {"kind":"dag"}"#.to_owned(),
            "gc - - {}".to_owned(),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_recorded_by_its_name_and_never_by_its_text() {
    let place = Place::new().await;
    let made = place
        .store
        .create_token(&ada(), "ci", TokenScope::Admin)
        .await;
    let (id, made) = made.unwrap();
    let log = listed(&place, AuditFilter::default()).await;
    assert_eq!(log[0].subject.as_deref(), Some("ci"));
    assert_eq!(log[0].detail["id"], id.to_string());
    let text = place
        .text("select string_agg(a::text, ' ') from audit a")
        .await;
    assert!(!text.contains(&made.secret), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_has_no_entry() {
    let things = Changeable::new().await;
    let store = &things.place.store;
    let (dag, version) = things.dag;
    let keyed = manual(dag, version, Some("once"));
    store.start_run(&ada(), &keyed).await.unwrap();
    store.cancel_run(&ada(), things.waiting).await.unwrap();
    let known = things.log().await.len();

    store.start_run(&ada(), &keyed).await.unwrap();
    store.pause_dag(&ada(), things.paused, true).await.unwrap();
    assert!(!store.cancel_run(&ada(), things.waiting).await.unwrap());
    let giving_up = GivingUp {
        by: ada(),
        patience: Duration::from_secs(90),
        gone: store.seen_gone(things.ended).await.unwrap(),
    };
    assert!(!store.abandon(things.ended, giving_up).await.unwrap().any);
    for refused in [
        store.revoke_token(&ada(), "unknown").await,
        store.release_from_quarantine(&ada(), 999).await,
        store.remove_repo(&ada(), things.place.repo).await,
        store
            .remove_secret(&ada(), things.place.repo, &secret("NEW"))
            .await,
        store.add_repo(&ada(), &new_repo("shop")).await.map(drop),
    ] {
        assert!(refused.is_err());
    }
    assert_eq!(things.log().await.len(), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_cancelled_together_have_an_entry_each() {
    let place = Place::new().await;
    let ids = place.dag(&chain("train", 1)).await;
    let runs = [place.start(ids).await, place.start(ids).await];
    place
        .sql(
            "insert into quarantine (run, place, reason, failures, first_at, last_at, held_at)
             values (2, 'planning', 'why', 1, now(), now(), now())",
        )
        .await;
    let filter = CancelFilter {
        repo: place.repo,
        dag: None,
        before: None,
        limit: 10,
    };
    place.store.cancel_runs(&ada(), &filter).await.unwrap();
    let cancelled = AuditFilter {
        actions: vec![AuditAction::RunCancel],
        ..AuditFilter::default()
    };
    let log = listed(&place, cancelled).await;
    let subjects: Vec<&str> = log
        .iter()
        .filter_map(|one| one.subject.as_deref())
        .collect();
    assert_eq!(subjects.len(), 2, "{log:?}");
    for run in runs {
        assert!(subjects.contains(&run.to_string().as_str()), "{log:?}");
    }
    let ended = log.iter().find(|one| one.subject.as_deref() == Some("2"));
    assert_eq!(ended.unwrap().detail["quarantined"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_found_by_repo_principal_action_and_time_after_their_repo_is_gone() {
    let place = &Place::new().await;
    let empty = add_repo(&place.store, "empty").await;
    let (dag, _) = place.dag(&chain("train", 1)).await;
    place
        .sql("update audit set at = now() - interval '1 day'")
        .await;
    place.store.remove_repo(&ada(), empty).await.unwrap();
    let mut bob = ada();
    bob.by.name = "bob".into();
    place.store.pause_dag(&bob, dag, true).await.unwrap();

    let actions = async |filter: AuditFilter| {
        let entries = listed(place, filter).await;
        let actions: Vec<String> = entries.into_iter().map(|entry| entry.action).collect();
        actions.join(" ")
    };
    let all = AuditFilter::default;
    let whole = "dag.pause repo.remove repo.add repo.add";
    assert_eq!(actions(all()).await, whole);
    let of = |repo: &str| AuditFilter {
        repo: Some(repo.into()),
        ..all()
    };
    assert_eq!(actions(of("empty")).await, "repo.remove repo.add");
    assert_eq!(actions(of("shop")).await, "dag.pause repo.add");
    let by = AuditFilter {
        by: Some("bob".into()),
        ..all()
    };
    assert_eq!(actions(by).await, "dag.pause");
    let removed = AuditFilter {
        actions: vec![AuditAction::RepoRemove, AuditAction::DagRemove],
        ..all()
    };
    assert_eq!(actions(removed).await, "repo.remove");
    let newest = listed(place, all()).await[0].clone();
    let earlier = AuditFilter {
        before: Some(newest.id),
        ..all()
    };
    assert_eq!(actions(earlier).await, "repo.remove repo.add repo.add");
    let hour_ago = newest.at - Duration::from_secs(3600);
    let since = AuditFilter {
        since: Some(hour_ago),
        ..all()
    };
    assert_eq!(actions(since).await, "dag.pause repo.remove");
    let until = AuditFilter {
        until: Some(hour_ago),
        ..all()
    };
    assert_eq!(actions(until).await, "repo.add repo.add");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_keeps_the_newest_entries_of_the_last_year() {
    let place = Place::new().await;
    let rule = Retention::default();
    place
        .sql(
            "delete from audit;
             insert into audit (id, at, principal_kind, principal_id, principal, action, detail)
             overriding system value
             select id, now() - age::interval, 'token', '1', 'ada', 'gc', '{}'
             from (values (1, '1 day'), (2000000, '366 days'), (2000001, '364 days'), (2000002, '0 s')) as e (id, age)",
        )
        .await;
    assert_eq!(
        place.store.prune(&rule, true).await.unwrap().audit_entries,
        2
    );
    assert_eq!(
        place.store.prune(&rule, false).await.unwrap().audit_entries,
        2
    );
    let kept = listed(&place, AuditFilter::default()).await;
    let kept: Vec<i64> = kept.into_iter().map(|entry| entry.id).collect();
    assert_eq!(kept, [2_000_002, 2_000_001]);
}
