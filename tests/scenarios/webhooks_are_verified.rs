//! A forged delivery starts nothing and learns nothing; a replayed one starts nothing more.

use std::time::Duration;

use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::webhook::{Delivery, sign};

const BOUND: Duration = Duration::from_secs(600);
const SECRET: &str = "a-webhook-secret-of-32-characters";

struct Scene {
    daemon: Daemon,
    before: String,
    after: String,
    _place: Place,
}

fn scene(more: &[&str]) -> Scene {
    let place = Place::new();
    let remote = Remote::new(&place, "model");
    let text = format!(
        "triggers: {{push: {{}}}}\nstages: {{say: {{image: \"{IMAGE}\", run: echo hi}}}}\n"
    );
    let before = remote.push("main", &[("dags/say.yaml", &text)]);
    let daemon = Daemon::dev(&place, &[&["--poll-every", "1h"], more].concat());
    let added = [
        "repo",
        "add",
        "model",
        &remote.url(),
        "--webhook-secret",
        "-",
    ];
    let _ = daemon.cli_with_input(&added, SECRET).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let after = remote.push("main", &[("change", "1")]);
    Scene {
        daemon,
        before,
        after,
        _place: place,
    }
}

#[test]
fn class_02_a_replayed_delivery_starts_one_run() {
    let scene = scene(&[]);
    let delivery = Delivery::of_push(SECRET, "d-1", "main", &scene.before, &scene.after);
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
    let id = scene.daemon.runs(1, BOUND)[0];
    let _ = scene.daemon.finished_run(id, BOUND);
    let _ = scene.daemon.cli(&["repo", "sync", "model"]).good();
    assert_eq!(scene.daemon.run_ids(), [id]);
}

#[test]
fn a_delivery_beyond_the_configured_size_is_refused_in_words_and_one_within_is_taken() {
    let scene = scene(&["--limits-webhook", "20KiB"]);
    let good = Delivery::of_push(SECRET, "d-1", "main", &scene.before, &scene.after);
    let padded = |bytes: usize| {
        let body = format!("{}{}", good.body, " ".repeat(bytes));
        Delivery {
            signature: sign(SECRET, &body),
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
    let id = scene.daemon.runs(1, BOUND)[0];
    let _ = scene.daemon.finished_run(id, BOUND);
}

#[test]
fn class_01_a_forged_signature_starts_nothing_and_reveals_nothing() {
    let scene = scene(&[]);
    let good = Delivery::of_push(SECRET, "d-1", "main", &scene.before, &scene.after);
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
