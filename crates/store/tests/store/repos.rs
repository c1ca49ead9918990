//! Repos, their syncs, and deliveries about them.

use std::time::Duration;

use secrecy::ExposeSecret;
use trainyard_core::id::RepoId;
use trainyard_core::name::{RepoName, SecretName};
use trainyard_store::{
    BranchMove, DeliveryRecorded, Error, NewDelivery, NewRepo, PushRecorded, RepoChange,
    RepoChanged, RepoCredentials, Store, Subject, SyncOutcome, Weight,
};

use crate::kit::*;
use crate::pushes::{file, push, sha};

fn delivery(place: &Place, id: &str, push: bool) -> NewDelivery {
    NewDelivery {
        provider: "github".into(),
        repo: place.repo,
        delivery_id: id.into(),
        event: "push".into(),
        push: push.then(|| BranchMove {
            branch: "main".into(),
            before: None,
            after: Some(sha('1')),
            actor: Some("ada".into()),
        }),
        without_push: "nothing to do: tags start no runs".into(),
    }
}

async fn changed(store: &Store, repo: RepoId, change: &RepoChange) {
    let address = store.repo_remote(repo).await.unwrap().address;
    let changed = store
        .change_repo(&ada(), repo, address, change)
        .await
        .unwrap();
    assert_eq!(changed, RepoChanged::Recorded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_sent_many_times_is_stored_once_and_makes_the_repo_due() {
    let place = Place::new().await;
    place
        .store
        .record_sync(place.repo, FIRST_ADDRESS, 0, SyncOutcome::Good)
        .await
        .unwrap();
    assert!(place.store.repos_to_sync().await.unwrap().is_empty());
    let sending = (0..10).map(|_| {
        let (store, delivery) = (place.store.clone(), delivery(&place, "d1", true));
        tokio::spawn(async move { store.record_delivery(&delivery).await.unwrap() })
    });
    let mut new = 0;
    for sent in sending.collect::<Vec<_>>() {
        new += usize::from(matches!(sent.await.unwrap(), DeliveryRecorded::New(_)));
    }
    assert_eq!(new, 1);
    let due = place.store.repos_to_sync().await.unwrap();
    assert!(due[0].synced_before);
    let pending = place.store.pending_pushes(place.repo).await.unwrap();
    assert_eq!(
        (pending.len(), pending[0].moved.branch.as_str()),
        (1, "main")
    );
    // A delivery that comes while the sync runs makes the repo due again at once.
    place
        .store
        .record_sync(place.repo, FIRST_ADDRESS, 0, SyncOutcome::Good)
        .await
        .unwrap();
    assert_eq!(place.store.next_sync().await.unwrap(), Some(Duration::ZERO));
    place
        .store
        .finish_delivery(place.repo, FIRST_ADDRESS, pending[0].delivery, "done")
        .await
        .unwrap();
    place
        .store
        .record_sync(place.repo, FIRST_ADDRESS, 0, SyncOutcome::Good)
        .await
        .unwrap();
    assert!(place.store.next_sync().await.unwrap().unwrap() > Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_about_something_else_is_kept_and_wakes_no_loop() {
    let place = Place::new().await;
    place
        .store
        .record_sync(place.repo, FIRST_ADDRESS, 0, SyncOutcome::Good)
        .await
        .unwrap();
    place
        .store
        .record_delivery(&delivery(&place, "ping", false))
        .await
        .unwrap();
    assert!(place.store.repos_to_sync().await.unwrap().is_empty());
    assert!(
        place
            .store
            .pending_pushes(place.repo)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_shown_and_tried_again_later() {
    let place = Place::new().await;
    let failed = SyncOutcome::Failed("no route to host".into());
    place
        .store
        .record_sync(place.repo, FIRST_ADDRESS, 0, failed)
        .await
        .unwrap();
    let repo = place.store.repo_summary(place.repo).await.unwrap().shown;
    assert_eq!(repo.last_error.as_deref(), Some("no route to host"));
    assert_eq!(repo.last_sync_at, None);
    assert!(place.store.repos_to_sync().await.unwrap().is_empty());
    place.store.request_sync(place.repo).await.unwrap();
    assert!(!place.store.repos_to_sync().await.unwrap()[0].synced_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_back_for_the_fetch() {
    let place = Place::new().await;
    let new = NewRepo {
        name: RepoName::new("private").unwrap(),
        url: "https://example.org/p.git".into(),
        followed_branch: Some("trunk".into()),
        poll_every: Duration::from_secs(60),
        webhook_secret: None,
        credentials: Some(RepoCredentials::Login {
            username: "bot".into(),
            password: "hush".into(),
        }),
    };
    let id = place.store.add_repo(&ada(), &new).await.unwrap();
    let remote = place.store.repo_remote(id).await.unwrap();
    let Some(RepoCredentials::Login { username, password }) = remote.credentials else {
        panic!("other credentials");
    };
    assert_eq!(
        (remote.url.as_str(), username.as_str()),
        ("https://example.org/p.git", "bot")
    );
    assert_eq!(password.expose_secret(), "hush");
    let taken = place.store.add_repo(&ada(), &new).await.unwrap_err();
    assert!(matches!(taken, Error::Conflict { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_back_for_the_fetch_with_its_known_hosts() {
    let place = Place::new().await;
    let new = NewRepo {
        name: RepoName::new("private").unwrap(),
        url: "ssh://git@example.org/p.git".into(),
        followed_branch: None,
        poll_every: Duration::from_secs(60),
        webhook_secret: None,
        credentials: Some(RepoCredentials::SshKey {
            key: "a key".into(),
            known_hosts: "example.org ssh-ed25519 AAAA".into(),
        }),
    };
    let id = place.store.add_repo(&ada(), &new).await.unwrap();
    let remote = place.store.repo_remote(id).await.unwrap();
    let Some(RepoCredentials::SshKey { key, known_hosts }) = remote.credentials else {
        panic!("other credentials");
    };
    assert_eq!(key.expose_secret(), "a key");
    assert_eq!(known_hosts, "example.org ssh-ed25519 AAAA");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_url_is_refused_since_urls_are_shown() {
    let place = Place::new().await;
    let mut new = NewRepo {
        name: RepoName::new("leaky").unwrap(),
        url: "https://bot:hush@example.org/p.git".into(),
        followed_branch: None,
        poll_every: Duration::from_secs(60),
        webhook_secret: None,
        credentials: None,
    };
    let refused = place.store.add_repo(&ada(), &new).await.unwrap_err();
    assert!(refused.to_string().contains("credentials") && !refused.to_string().contains("hush"));
    for fine in [
        "https://bot@example.org/p.git",
        "file:///srv/a:b@c",
        "git@example.org:p.git",
    ] {
        new.url = fine.into();
        new.name = RepoName::new(format!("r{}", fine.len())).unwrap();
        place.store.add_repo(&ada(), &new).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_repo_leaves_what_it_does_not_name_and_makes_it_due() {
    let place = Place::new().await;
    let store = &place.store;
    let new = NewRepo {
        name: RepoName::new("private").unwrap(),
        url: "https://example.org/p.git".into(),
        followed_branch: Some("trunk".into()),
        poll_every: Duration::from_secs(60),
        webhook_secret: Some("first".into()),
        credentials: Some(RepoCredentials::Login {
            username: "bot".into(),
            password: "hush".into(),
        }),
    };
    let id = store.add_repo(&ada(), &new).await.unwrap();
    store
        .record_sync(id, FIRST_ADDRESS, 0, SyncOutcome::Good)
        .await
        .unwrap();
    let is_due = async || {
        let due = store.repos_to_sync().await.unwrap();
        due.iter().any(|repo| repo.id == id)
    };
    assert!(!is_due().await);

    let change = RepoChange {
        url: Some("https://example.org/moved.git".into()),
        poll_every: Some(Duration::from_secs(300)),
        ..RepoChange::default()
    };
    changed(store, id, &change).await;
    assert!(is_due().await);
    // A sync that was running does not answer the change, and has not read the new address.
    store
        .record_sync(id, FIRST_ADDRESS, 0, SyncOutcome::Good)
        .await
        .unwrap();
    let due = store.repos_to_sync().await.unwrap();
    let due = due.iter().find(|repo| repo.id == id).unwrap();
    assert!(!due.synced_before);
    let outcome = SyncOutcome::Good;
    store
        .record_sync(id, due.address, due.asked, outcome)
        .await
        .unwrap();
    let repo = store.repo_summary(id).await.unwrap();
    assert_eq!(
        (repo.shown.url.as_str(), repo.followed_branch.as_deref()),
        ("https://example.org/moved.git", Some("trunk"))
    );
    assert_eq!(repo.shown.poll_every_seconds, 300);
    assert!(repo.shown.has_credentials);

    let change = RepoChange {
        followed_branch: Some(None),
        webhook_secret: Some("second".into()),
        credentials: Some(None),
        ..RepoChange::default()
    };
    changed(store, id, &change).await;
    let repo = store.repo_summary(id).await.unwrap();
    assert_eq!(repo.followed_branch, None);
    assert!(!repo.shown.has_credentials);
    let (_, secret) = store.webhook_secret("private").await.unwrap().unwrap();
    assert_eq!(secret.expose_secret(), "second");

    let leaky = RepoChange {
        url: Some("https://bot:hush@example.org/p.git".into()),
        ..RepoChange::default()
    };
    let address = store.repo_remote(id).await.unwrap().address;
    let refused = store
        .change_repo(&ada(), id, address, &leaky)
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sync_of_an_earlier_address_has_seen_changes_nothing() {
    for change in [
        RepoChange {
            url: Some("https://example.org/moved.git".into()),
            ..RepoChange::default()
        },
        RepoChange {
            credentials: Some(None),
            ..RepoChange::default()
        },
    ] {
        let place = Place::new().await;
        let (store, repo) = (&place.store, place.repo);
        let seen = push(None, '1', vec![file(&chain("a", 1))]);
        let recorded = store.record_push(repo, FIRST_ADDRESS, seen).await.unwrap();
        assert!(matches!(recorded, PushRecorded::Recorded { .. }));
        store
            .record_delivery(&delivery(&place, "d1", true))
            .await
            .unwrap();
        changed(store, repo, &change).await;
        let before = place.everything().await;

        let seen = push(Some('1'), '2', vec![file(&chain("b", 1))]);
        let recorded = store.record_push(repo, FIRST_ADDRESS, seen).await.unwrap();
        assert_eq!(recorded, PushRecorded::AddressChanged);
        let at = Some(sha('1'));
        store
            .record_branch_gone(repo, FIRST_ADDRESS, "main", at)
            .await
            .unwrap();
        let pending = store.pending_pushes(repo).await.unwrap();
        store
            .finish_delivery(repo, FIRST_ADDRESS, pending[0].delivery, "done")
            .await
            .unwrap();
        for outcome in [SyncOutcome::Good, SyncOutcome::Failed("no route".into())] {
            store
                .record_sync(repo, FIRST_ADDRESS, 9, outcome)
                .await
                .unwrap();
        }
        assert_eq!(place.everything().await, before);
        let due = store.repos_to_sync().await.unwrap();
        assert_ne!(due[0].address, FIRST_ADDRESS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_waits_for_a_change_of_the_address_starts_nothing() {
    let place = Place::new().await;
    let mut changing = place.raw.begin().await.unwrap();
    sqlx::query("update repo set address_number = address_number + 1")
        .execute(&mut *changing)
        .await
        .unwrap();
    let (store, repo) = (place.store.clone(), place.repo);
    let seen = push(None, '1', vec![file(&chain("a", 1))]);
    let recording =
        tokio::spawn(async move { store.record_push(repo, FIRST_ADDRESS, seen).await.unwrap() });
    place.until_waiting(1).await;
    changing.commit().await.unwrap();
    assert_eq!(recording.await.unwrap(), PushRecorded::AddressChanged);
    assert_eq!(place.count("select count(*) from run").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_decided_for_an_earlier_address_is_not_made() {
    let place = Place::new().await;
    let (store, repo) = (&place.store, place.repo);
    let elsewhere = RepoChange {
        url: Some("https://example.com/p.git".into()),
        credentials: Some(None),
        ..RepoChange::default()
    };
    changed(store, repo, &elsewhere).await;
    let completed = RepoChange {
        credentials: Some(Some(RepoCredentials::Login {
            username: "bot".into(),
            password: "hush".into(),
        })),
        ..RepoChange::default()
    };
    let before = place.everything().await;
    let stale = store
        .change_repo(&ada(), repo, FIRST_ADDRESS, &completed)
        .await;
    assert_eq!(stale.unwrap(), RepoChanged::Stale);
    assert_eq!(place.everything().await, before);
    store.remove_repo(&ada(), repo).await.unwrap();
    let gone = store
        .change_repo(&ada(), repo, FIRST_ADDRESS, &completed)
        .await;
    assert!(matches!(gone, Err(Error::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_another_address_ends_with_a_change_of_it_and_with_a_removal() {
    let place = Place::new().await;
    let (store, repo) = (&place.store, place.repo);
    let watching = |address| {
        let store = store.clone();
        tokio::spawn(async move { store.address_changed(repo, address).await })
    };
    let first = watching(FIRST_ADDRESS);
    let change = RepoChange {
        poll_every: Some(Duration::from_secs(300)),
        ..RepoChange::default()
    };
    changed(store, repo, &change).await;
    assert!(store.is_at(repo, FIRST_ADDRESS).await.unwrap());
    let change = RepoChange {
        url: Some("https://example.org/moved.git".into()),
        ..RepoChange::default()
    };
    changed(store, repo, &change).await;
    first.await.unwrap();
    let second = watching(store.repo_remote(repo).await.unwrap().address);
    store.remove_repo(&ada(), repo).await.unwrap();
    second.await.unwrap();
    let other = add_repo(store, "other").await;
    let removed = store.removed_repos(&[repo, other]).await.unwrap();
    assert_eq!(removed, [repo]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_credentials_release_a_repo_from_quarantine_and_another_interval_does_not() {
    let place = Place::new().await;
    let store = &place.store;
    let subject = Subject::Repo(place.repo);
    let held = store.record_trouble(subject, "sync", "too large", Weight::Certain);
    assert!(held.await.unwrap());
    let change = RepoChange {
        poll_every: Some(Duration::from_secs(300)),
        ..RepoChange::default()
    };
    changed(store, place.repo, &change).await;
    assert_eq!(store.quarantined_count().await.unwrap(), 1);
    let change = RepoChange {
        credentials: Some(None),
        ..RepoChange::default()
    };
    changed(store, place.repo, &change).await;
    assert_eq!(store.quarantined_count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repo_fails_to_sync_since_its_first_failure_until_a_sync_is_good() {
    let place = Place::new().await;
    let store = &place.store;
    let sync = async |outcome| {
        store
            .record_sync(place.repo, FIRST_ADDRESS, 0, outcome)
            .await
            .unwrap()
    };
    let failed = || SyncOutcome::Failed("no route to host".into());
    assert_eq!(store.failing_syncs().await.unwrap(), None);
    let _ = place.dag(&chain("a", 1)).await;
    sync(failed()).await;
    let first = store.failing_syncs().await.unwrap().unwrap();
    assert_eq!(first.repos, 1);
    sync(failed()).await;
    assert_eq!(store.failing_syncs().await.unwrap(), Some(first));
    let dags = store.list_dags(None).await.unwrap();
    assert_eq!(dags[0].sync_failing_since, Some(first.since));
    // A branch that is refused for good does not make the sync fail.
    sync(SyncOutcome::AllBut("branch x is refused".into())).await;
    assert_eq!(store.failing_syncs().await.unwrap(), None);
    let repo = store.repo_summary(place.repo).await.unwrap().shown;
    assert_eq!(
        (repo.failing_since, repo.last_error.is_some()),
        (None, true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_with_the_newest_first() {
    let place = Place::new().await;
    for (id, push) in [("d1", false), ("d2", true)] {
        let new = delivery(&place, id, push);
        place.store.record_delivery(&new).await.unwrap();
    }
    let listed = place.store.list_deliveries(place.repo, 9).await.unwrap();
    let ids: Vec<&str> = listed.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["d2", "d1"]);
    assert_eq!(
        (listed[0].branch.as_deref(), listed[0].result.as_deref()),
        (Some("main"), None)
    );
    assert_eq!(
        listed[1].result.as_deref(),
        Some("nothing to do: tags start no runs")
    );
    let newest = place.store.list_deliveries(place.repo, 1).await.unwrap();
    assert_eq!(newest, listed[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dag_that_is_gone_is_removed_with_its_runs_once_they_have_ended() {
    let place = Place::new().await;
    let store = &place.store;
    let (gone, version) = place.dag(&chain("gone", 1)).await;
    let run = place.start((gone, version)).await;
    let refused = store
        .remove_dag(&ada(), gone)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("run cancel --repo shop --dag gone"),
        "{refused}"
    );
    assert!(
        refused.starts_with("1 run of DAG `gone` has not ended;"),
        "{refused}"
    );
    let history = store.dag_history(gone).await.unwrap();
    assert_eq!((history.runs, history.unfinished_runs), (1, 1));
    store.cancel_run(&ada(), run).await.unwrap();
    assert!(store.run_summary(run).await.unwrap().finished_at.is_some());

    let history = store.dag_history(gone).await.unwrap();
    assert_eq!(
        (history.dags, history.runs, history.unfinished_runs),
        (1, 1, 0)
    );
    let name = SecretName::new("DSN".to_owned()).unwrap();
    let value = "x".into();
    store
        .set_secret(&ada(), place.repo, &name, &value, None)
        .await
        .unwrap();
    let of_repo = store.repo_history(place.repo).await.unwrap();
    assert_eq!((of_repo.runs, of_repo.secrets), (1, 1));

    store.remove_dag(&ada(), gone).await.unwrap();
    assert!(store.list_dags(None).await.unwrap().is_empty());
    assert_eq!(place.count("select count(*) from run_event").await, 0);
    assert_eq!(place.count("select count(*) from cause").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dag_of_the_followed_branch_is_not_removed() {
    let place = Place::new().await;
    let mut seen = push(None, '1', vec![file(&chain("a", 1))]);
    seen.matches.clear();
    place
        .store
        .record_push(place.repo, FIRST_ADDRESS, seen)
        .await
        .unwrap();
    let dag = place.store.resolve_dag("a").await.unwrap();
    let refused = place
        .store
        .remove_dag(&ada(), dag)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("dags/a.yaml") && refused.contains("trainyard dag pause shop/a"),
        "{refused}"
    );
}
