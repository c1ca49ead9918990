//! Repos, their syncs, and deliveries about them.

use std::time::Duration;

use secrecy::ExposeSecret;
use trainyard_core::name::RepoName;
use trainyard_store::{
    DeliveryRecorded, Error, NewDelivery, NewRepo, RepoCredentials, SyncOutcome, ToldPush,
};

use crate::kit::*;
use crate::pushes::sha;

fn delivery(place: &Place, id: &str, push: bool) -> NewDelivery {
    NewDelivery {
        provider: "github".into(),
        repo: place.repo,
        delivery_id: id.into(),
        event: "push".into(),
        body: b"{}".to_vec(),
        push: push.then(|| ToldPush {
            branch: "main".into(),
            before: None,
            after: Some(sha('1')),
            actor: Some("ada".into()),
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_sent_many_times_is_stored_once_and_makes_the_repo_due() {
    let place = Place::new().await;
    place
        .store
        .record_sync(place.repo, 0, SyncOutcome::Good)
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
    assert_eq!((pending.len(), pending[0].branch.as_str()), (1, "main"));
    // A delivery that comes while the sync runs makes it due again at once.
    place
        .store
        .record_sync(place.repo, 0, SyncOutcome::Good)
        .await
        .unwrap();
    assert_eq!(place.store.next_sync().await.unwrap(), Some(Duration::ZERO));
    place
        .store
        .finish_delivery(pending[0].delivery, "done")
        .await
        .unwrap();
    place
        .store
        .record_sync(place.repo, 0, SyncOutcome::Good)
        .await
        .unwrap();
    assert!(place.store.next_sync().await.unwrap().unwrap() > Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_about_something_else_is_kept_and_wakes_nobody() {
    let place = Place::new().await;
    place
        .store
        .record_sync(place.repo, 0, SyncOutcome::Good)
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
        .record_sync(place.repo, 0, failed)
        .await
        .unwrap();
    let detail = place.store.repo_detail(place.repo).await.unwrap();
    assert_eq!(
        detail.summary.last_error.as_deref(),
        Some("no route to host")
    );
    assert_eq!(detail.summary.last_sync_at, None);
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
    let id = place.store.add_repo(&new).await.unwrap();
    let (url, credentials) = place.store.repo_remote(id).await.unwrap();
    let Some(RepoCredentials::Login { username, password }) = credentials else {
        panic!("other credentials");
    };
    assert_eq!(
        (url.as_str(), username.as_str()),
        ("https://example.org/p.git", "bot")
    );
    assert_eq!(password.expose_secret(), "hush");
    let taken = place.store.add_repo(&new).await.unwrap_err();
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
    let id = place.store.add_repo(&new).await.unwrap();
    let (_, credentials) = place.store.repo_remote(id).await.unwrap();
    let Some(RepoCredentials::SshKey { key, known_hosts }) = credentials else {
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
    let refused = place.store.add_repo(&new).await.unwrap_err();
    assert!(refused.to_string().contains("credentials") && !refused.to_string().contains("hush"));
    for fine in [
        "https://bot@example.org/p.git",
        "file:///srv/a:b@c",
        "git@example.org:p.git",
    ] {
        new.url = fine.into();
        new.name = RepoName::new(format!("r{}", fine.len())).unwrap();
        place.store.add_repo(&new).await.unwrap();
    }
}
