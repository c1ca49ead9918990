//! A forged delivery starts nothing and learns nothing; a replayed one starts nothing more.

use trainyard_tests::scene::{Scene, WEBHOOK_SECRET};
use trainyard_tests::webhook::{Delivery, sign};

/// A daemon whose remote has one push more than it knows, and the delivery of that push.
fn pushed(more: &[&str]) -> (Scene, Delivery) {
    let scene = Scene::plan()
        .options(&[&["--poll-every", "1h"], more].concat())
        .webhooks()
        .file(
            "dags/say.yaml",
            "triggers: {push: {}}\nstages: {say: {image: alpine:3, run: echo hi}}\n",
        )
        .begin();
    let before = scene.remote.head();
    let after = scene.push("main", &[("change", "1")]);
    let delivery = scene.delivery("d-1", &before, &after);
    (scene, delivery)
}

#[test]
fn class_02_a_replayed_delivery_starts_one_run() {
    let (scene, delivery) = pushed(&[]);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(delivery.send(scene.daemon.url(), "model") / 100, 2));
        }
    });
    let again = Delivery {
        id: "d-2".to_owned(),
        ..delivery
    };
    assert_eq!(
        again.send(scene.daemon.url(), "model") / 100,
        2,
        "another id, the same push"
    );
    let id = scene.first_run();
    let _ = scene.finished(id);
    scene.sync();
    assert_eq!(scene.daemon.run_ids(), [id]);
}

#[test]
fn a_delivery_beyond_the_configured_size_is_refused_in_words_and_one_within_is_taken() {
    let (scene, good) = pushed(&["--limits-webhook", "20KiB"]);
    let padded = |bytes: usize| {
        let body = format!("{}{}", good.body, " ".repeat(bytes));
        Delivery {
            signature: sign(WEBHOOK_SECRET, &body),
            body,
            ..good.clone()
        }
    };
    assert_eq!(
        padded(20 << 10).send(scene.daemon.url(), "model"),
        413,
        "signed, and yet too large"
    );
    let reported = scene.daemon.output();
    assert!(
        reported.contains("larger than limits.webhook, which is 20480 bytes"),
        "{reported}"
    );
    let refused = "trainyard_webhook_deliveries_total{result=\"too_large\"}";
    assert_eq!(scene.daemon.figure(refused), 1.0);
    assert_eq!(scene.daemon.run_ids(), [0; 0]);
    assert_eq!(padded(19 << 10).send(scene.daemon.url(), "model"), 202);
    let id = scene.first_run();
    let _ = scene.finished(id);
}

#[test]
fn class_01_a_forged_signature_starts_nothing_and_reveals_nothing() {
    let (scene, good) = pushed(&[]);
    let forged = [
        Delivery {
            signature: sign("another secret", &good.body),
            ..good.clone()
        },
        Delivery {
            signature: good.signature[..40].to_owned(),
            ..good.clone()
        },
        Delivery {
            signature: String::new(),
            ..good.clone()
        },
        Delivery {
            signature: good.signature.replace("sha256=", "sha1="),
            ..good.clone()
        },
        Delivery {
            body: good.body.replace("ada", "eve"),
            ..good.clone()
        },
    ];
    for delivery in &forged {
        assert_eq!(
            delivery.send(scene.daemon.url(), "model"),
            401,
            "{delivery:?}"
        );
    }
    assert_eq!(
        good.send(scene.daemon.url(), "nobody"),
        401,
        "an unknown repo answers alike"
    );
    assert_eq!(scene.daemon.run_ids(), [0; 0]);
}
