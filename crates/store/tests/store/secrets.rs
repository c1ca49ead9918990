//! Secrets and tokens.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};
use trainyard_api::TokenScope;
use trainyard_core::name::SecretName;
use trainyard_core::secret::SecretBranches;
use trainyard_store::{Error, SecretKey, Store, StoreOptions};

use crate::kit::*;

const CANARY: &str = "canary-7f3a-value";

fn dsn() -> SecretName {
    SecretName::new("DSN").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_comes_back_for_its_repo_only_and_is_unreadable_in_the_database() {
    let place = Place::new().await;
    place
        .store
        .set_secret(&ada(), place.repo, &dsn(), &CANARY.into(), None)
        .await
        .unwrap();
    let names = BTreeSet::from([dsn(), SecretName::new("OTHER").unwrap()]);
    let values = place.store.secrets_for(place.repo, &names).await.unwrap();
    assert_eq!(values.by_name.len(), 1);
    assert_eq!(values.by_name[&dsn()].value.expose_secret(), CANARY);
    let dump = place
        .text("select string_agg(encode(sealed, 'escape'), ' ') || (select string_agg(r::text, ' ') from repo r) from secret")
        .await;
    assert!(!dump.contains(CANARY) && !dump.contains("hook-secret"));
    assert!(
        !dump.contains(&hex::encode(CANARY)),
        "bytea is shown in hex"
    );
    let listed = place.store.list_secrets(place.repo).await.unwrap();
    assert_eq!(listed[0].name, "DSN");
    place
        .store
        .remove_secret(&ada(), place.repo, &dsn())
        .await
        .unwrap();
    let gone = place
        .store
        .remove_secret(&ada(), place.repo, &dsn())
        .await
        .unwrap_err();
    assert_eq!(gone.to_string(), "there is no secret DSN");
}

#[tokio::test(flavor = "multi_thread")]
async fn class_09_a_secret_keeps_its_branches_when_its_value_is_set_again() {
    let place = Place::new().await;
    let set = async |branches: Option<&[&str]>| {
        let branches = branches.map(|list| SecretBranches::new(list.iter().copied()).unwrap());
        place
            .store
            .set_secret(
                &ada(),
                place.repo,
                &dsn(),
                &CANARY.into(),
                branches.as_ref(),
            )
            .await
            .unwrap();
        place.store.list_secrets(place.repo).await.unwrap()[0]
            .branches
            .clone()
    };
    assert!(set(None).await.is_empty());
    assert_eq!(
        set(Some(&["main", "release/*"])).await,
        ["main", "release/*"]
    );
    assert_eq!(set(None).await, ["main", "release/*"]);
    assert!(set(Some(&[])).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn class_09_the_followed_branch_is_read_as_it_is_at_the_moment() {
    let place = Place::new().await;
    place
        .store
        .set_secret(&ada(), place.repo, &dsn(), &CANARY.into(), None)
        .await
        .unwrap();
    let names = BTreeSet::from([dsn()]);
    let may = async |branch: &str| {
        let found = place.store.secrets_for(place.repo, &names).await.unwrap();
        let secret = &found.by_name[&dsn()];
        secret
            .branches
            .admit(Some(branch), found.followed.as_deref())
    };
    assert!(!may("main").await, "the repo was not synced yet");
    place.sql("update repo set current_branch = 'main'").await;
    assert!(may("main").await && !may("trunk").await);
    place.sql("update repo set current_branch = 'trunk'").await;
    assert!(!may("main").await && may("trunk").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_value_moved_to_another_name_does_not_open() {
    let place = Place::new().await;
    place
        .store
        .set_secret(&ada(), place.repo, &dsn(), &CANARY.into(), None)
        .await
        .unwrap();
    place.sql("update secret set name = 'STOLEN'").await;
    let names = BTreeSet::from([SecretName::new("STOLEN").unwrap()]);
    let refused = place.store.secrets_for(place.repo, &names).await;
    assert!(matches!(refused, Err(Error::WrongSecretKey)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_found_out_at_the_start() {
    let place = Place::new().await;
    let mut options = StoreOptions::new(place.url.clone());
    options.secret_key = Some(SecretKey::from_bytes([8; 32]));
    let store = Store::connect(&options).await.unwrap();
    let refused = store.migrate().await.unwrap_err();
    assert!(matches!(refused, Error::WrongSecretKey));
    assert!(refused.to_string().contains("key file"));
    assert!(Store::has_another_key(&options).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_database_is_checked_without_changing_anything() {
    let place = Place::new().await;
    let mut options = StoreOptions::new(place.url.clone());
    assert!(
        Store::has_another_key(&options).await.unwrap(),
        "a database with a key takes no new one"
    );
    place.sql("update instance set key_check = null").await;
    assert!(!Store::has_another_key(&options).await.unwrap());
    place.sql("drop table instance cascade").await;
    options.secret_key = Some(SecretKey::from_bytes([8; 32]));
    assert!(!Store::has_another_key(&options).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_secret_is_had_by_the_repos_name() {
    let place = Place::new().await;
    let (repo, secret) = place.store.webhook_secret("shop").await.unwrap().unwrap();
    assert_eq!((repo, secret.expose_secret()), (place.repo, "hook-secret"));
    assert!(
        place
            .store
            .webhook_secret("nowhere")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_until_it_is_revoked_and_is_stored_as_a_hash() {
    let place = Place::new().await;
    let (id, made) = place
        .store
        .create_token(&ada(), "laptop", TokenScope::Admin)
        .await
        .unwrap();
    let token = SecretString::from(made.secret);
    let who = place.store.authenticate(&token).await.unwrap().unwrap();
    assert_eq!((who.id, who.name.as_str()), (id, "laptop"));
    assert!(
        place
            .store
            .authenticate(&SecretString::from("guess"))
            .await
            .unwrap()
            .is_none()
    );
    let rows = place.text("select t::text from token t").await;
    assert!(!rows.contains(token.expose_secret().trim_start_matches("trainyard_")));

    let taken = place
        .store
        .create_token(&ada(), "laptop", TokenScope::Admin)
        .await
        .unwrap_err();
    assert!(matches!(taken, Error::Conflict { .. }));
    place.store.revoke_token(&ada(), "laptop").await.unwrap();
    assert!(place.store.authenticate(&token).await.unwrap().is_none());
    let (_, second) = place
        .store
        .create_token(&ada(), "laptop", TokenScope::Admin)
        .await
        .unwrap();
    let second = SecretString::from(second.secret);
    assert!(place.store.authenticate(&second).await.unwrap().is_some());
    assert!(matches!(
        place.store.revoke_token(&ada(), "nobody").await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(place.store.list_tokens().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_token_is_recorded_after_the_clock_went_back() {
    let place = Place::new().await;
    let (_, made) = place
        .store
        .create_token(&ada(), "laptop", TokenScope::Admin)
        .await
        .unwrap();
    let token = SecretString::from(made.secret);
    place
        .sql("update token set last_used_at = now() + interval '1 day'")
        .await;
    place.store.authenticate(&token).await.unwrap().unwrap();
    let ahead = "select count(*) from token where last_used_at > now()";
    assert_eq!(place.count(ahead).await, 0);
}
