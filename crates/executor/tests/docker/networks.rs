//! A network of its own for each repo.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use bollard::query_parameters::ListNetworksOptionsBuilder;
use trainyard_core::id::RepoId;
use trainyard_executor::conformance::{Candidate, Kit, check};
use trainyard_executor::{Attempts, Containers, Handle};
use uuid::Uuid;

use crate::place::{RealDocker, client, script};

/// The networks of an installation.
async fn all(kit: &Kit<RealDocker>) -> Vec<String> {
    let label = format!("io.trainyard.network.instance={}", kit.subject.instance());
    let filters = HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListNetworksOptionsBuilder::default()
        .filters(&filters)
        .build();
    let listed = client().list_networks(Some(options)).await.unwrap();
    listed
        .into_iter()
        .filter_map(|network| network.name)
        .collect()
}

pub(crate) async fn remove_all(kit: &Kit<RealDocker>) {
    for name in all(kit).await {
        client().remove_network(&name).await.unwrap();
    }
}

async fn address(handle: &Handle) -> String {
    let found = client()
        .inspect_container(&handle.container, None)
        .await
        .unwrap();
    let networks = found.network_settings.unwrap().networks.unwrap();
    networks.into_values().next().unwrap().ip_address.unwrap()
}

#[tokio::test]
async fn class_16_stages_of_another_repo_are_out_of_reach_and_those_of_the_same_are_not() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let victim = RepoId(Uuid::now_v7());
        let mut server = kit.spec_of(script(
            "trap 'exit 0' TERM; nc -ll -p 9999 -e echo canary & \
             until nc 127.0.0.1 9999 </dev/null >/dev/null; do :; done; echo up; wait",
        ));
        server.repo = Some(victim);
        let server = kit.start(&executor, &server).await;
        kit.first_frame(&executor, &server).await;
        let at = address(&server).await;
        // While a network is made on Docker, as other tests do, Docker's rules do not separate networks for some
        // milliseconds (docs/security.md): one connection proves nothing.
        let ask = format!(
            "for i in 1 2 3; do nc -w 3 {at} 9999 </dev/null || {{ echo unreachable; break; }}; done | tail -n 1"
        );
        let mut handles = vec![server];
        for (repo, expected) in [
            (Some(victim), "canary\n"),
            (Some(RepoId(Uuid::now_v7())), "unreachable\n"),
            (None, "unreachable\n"),
        ] {
            let mut client = kit.spec_of(script(&ask));
            client.repo = repo;
            let (handle, _) = kit.run(&executor, &client).await;
            let printed = kit.printed(&executor, &handle).await.stdout;
            assert_eq!(printed, expected, "{repo:?}");
            handles.push(handle);
        }
        assert_eq!(all(&kit).await.len(), 2);
        for handle in &handles {
            executor.remove(handle).await.unwrap();
        }
        remove_all(&kit).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn two_daemons_that_need_a_repo_s_network_at_once_make_one() {
    check(RealDocker::new().await, |kit| async move {
        let (one, two) = (kit.subject.make().await, kit.subject.make().await);
        let repo = Some(RepoId(Uuid::now_v7()));
        let spec = || {
            let mut spec = kit.spec_of(script("true"));
            spec.repo = repo;
            spec
        };
        let (first, second) = (spec(), spec());
        let (first, second) = tokio::join!(one.create(&first), two.create(&second));
        for handle in [first.unwrap(), second.unwrap()] {
            one.remove(&handle).await.unwrap();
        }
        assert_eq!(all(&kit).await.len(), 1);
        remove_all(&kit).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn a_network_without_containers_goes_once_no_daemon_needs_it() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut spec = kit.spec_of(script("true"));
        spec.repo = Some(RepoId(Uuid::now_v7()));
        let handle = executor.create(&spec).await.unwrap();
        // A daemon that began just now has needed none of them.
        let later = kit.subject.make().await;
        let nothing = std::collections::BTreeSet::new();
        let before = trainyard_core::Timestamp::UNIX_EPOCH;
        later
            .remove_unused_build_images(before, &nothing)
            .await
            .unwrap();
        assert_eq!(
            all(&kit).await.len(),
            1,
            "a container is in it, though it does not run"
        );
        later.remove(&handle).await.unwrap();
        later
            .remove_unused_build_images(before, &nothing)
            .await
            .unwrap();
        assert_eq!(all(&kit).await, [""; 0]);
        // The first one does not know that it was removed.
        let mut other = kit.spec_of(script("true"));
        other.repo = spec.repo;
        let (handle, code) = kit.run(&executor, &other).await;
        assert_eq!(code, 0);
        executor.remove(&handle).await.unwrap();
        remove_all(&kit).await;
        kit
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_stops_removes_the_networks_that_no_container_needs() {
    check(RealDocker::new().await, |kit| async move {
        let executor = kit.subject.make().await;
        let mut handles = Vec::new();
        for _ in 0..2 {
            let mut spec = kit.spec_of(script("true"));
            spec.repo = Some(RepoId(Uuid::now_v7()));
            handles.push(executor.create(&spec).await.unwrap());
        }
        executor.remove(&handles[0]).await.unwrap();
        executor.remove_networks().await.unwrap();
        assert_eq!(all(&kit).await.len(), 1);
        executor.remove(&handles[1]).await.unwrap();
        executor.remove_networks().await.unwrap();
        assert_eq!(all(&kit).await, [""; 0]);
        kit
    })
    .await;
}

#[tokio::test]
async fn class_15_a_build_is_in_the_network_of_its_stage() {
    check(RealDocker::with_network("none").await, |kit| async move {
        let executor = kit.subject.make().await;
        let text = format!(
            "FROM trainyard-test/busybox:1\nLABEL test={}\nRUN echo $(ls /sys/class/net)\n",
            Uuid::now_v7()
        );
        let said = Mutex::new(Vec::new());
        let say = |line: String| said.lock().unwrap().push(line);
        let request = crate::building::request(&[("Dockerfile", &text)], &BTreeMap::new());
        let image = executor.prepare(&request, &say).await.unwrap();
        let said = said.into_inner().unwrap();
        assert!(said.contains(&"lo".to_owned()), "{said:?}");
        crate::building::remove(&image).await;
        kit
    })
    .await;
}
