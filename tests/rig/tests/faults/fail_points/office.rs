//! The act of the office: requests of users, and the daemon's own housekeeping. Secrets, tokens and repos come
//! and go, a schedule is fixed and ticks, runs must not overlap, a DAG pauses, a branch comes and goes, and
//! retention removes old data.

use trainyard_rig::fleet::REPO;
use trainyard_tests::engine::IMAGE;

use super::play::{Title, VOLUMES, expect};
use super::player::Player;
use super::scenery::dag;

/// The label of images that an installation built.
const BUILT: &str = "io.trainyard.build.instance";

pub(super) struct Office;

impl Office {
    /// How its runs end.
    pub(super) const ENDS: [&str; 4] = [
        "alone manual succeeded",
        "alone manual succeeded",
        "tick manual succeeded",
        "tick schedule succeeded",
    ];

    pub(super) fn enter(player: &mut Player<'_>, title: &Title) -> Self {
        make_old_things(player, title);
        let Title { name, .. } = title;
        keys(player, name);
        tick(player, title);
        for which in ["one", "other"] {
            player.trigger(&dag("alone"), &format!("{name}-alone-{which}"), &[]);
        }
        for verb in ["pause", "unpause"] {
            player.call(&["dag", verb, &dag("tick")], "", "");
        }
        branches(player, name);
        a_dag_goes(player, name);
        Self
    }

    /// Once all has ended.
    #[expect(clippy::unused_self, reason = "nothing ends that has not begun")]
    pub(super) fn close(self, player: &mut Player<'_>, title: &Title) -> Vec<String> {
        collect_garbage(player, title);
        let last = title.last;
        let mut wrong = expect(
            "DAGs with more old runs than are kept",
            &player.sql(&format!(
                "select count(*) from (select from run where id <= {last} group by dag having count(*) > 3) as dags"
            )),
            "0",
        );
        wrong.extend(expect(
            "old logs kept",
            &player.sql(&format!(
                "select count(*) from attempt_log l join attempt a on a.id = l.attempt
                 where a.run <= {last} and l.pruned_at is null"
            )),
            "0",
        ));
        wrong
    }
}

/// An init of an earlier version, and an image that no run has used for long.
fn make_old_things(player: &Player<'_>, title: &Title) {
    let engine = &player.fleet.engine;
    let label = VOLUMES.replace("label=", "") + "=";
    let _ = engine.docker(&["volume", "create", "--label", &label, &volume(title)]);
    let instance = player.sql("select id from instance");
    let label = format!("LABEL {BUILT}={instance}");
    let tag = image(title);
    let container = engine.docker(&["create", IMAGE]);
    let _ = engine.docker(&["commit", "--change", &label, &container, &tag]);
    let _ = engine.docker(&["rm", &container]);
}

fn volume(title: &Title) -> String {
    format!("trainyard-init-{}", title.name)
}

fn image(title: &Title) -> String {
    format!("trainyard/build:{}", title.name)
}

fn keys(player: &mut Player<'_>, name: &str) {
    let secret = ["OTHER", "--repo", REPO];
    let verb = |verb| [&["secret", verb], secret.as_slice()].concat();
    player.call(&verb("set"), &format!("sesame {name}"), "");
    player.call(&verb("remove"), "", "there is no");
    let token = loop {
        let made = ["token", "create", name, "--output", "json"];
        let made = player.call(&made, "", "is in use");
        if made.code == Some(0) {
            break made.json()["secret"].as_str().unwrap().to_owned();
        }
        // It was made, and no client has received its text.
        player.call(&["token", "revoke", name], "", "there is no");
    };
    player.call_with_token(&token, &["repo", "list"], "");
    player.call(&["token", "revoke", name], "", "there is no");
    player.call_with_token(&token, &["repo", "list"], "is unknown or was revoked");
    let url = player.fleet.remote.url();
    let add = ["repo", "add", name, &url, "--poll-every", "3600"];
    player.call(&add, "", "already");
    let set = ["repo", "set", name, "--poll-every", "7200"];
    player.call(&set, "", "");
    player.call(&["repo", "remove", name, "--yes"], "", "there is no");
}

/// A schedule that is due and cannot be read is quarantined; once it is fixed, it ticks.
fn tick(player: &mut Player<'_>, title: &Title) {
    let of_tick = format!(
        "from dag d join repo r on r.id = d.repo where r.name = '{REPO}' and d.name = 'tick'"
    );
    let reported = "select pg_notify('trainyard', 'somebody schedule')";
    let _ = player.sql(&format!(
        "update schedule s set cron = 'never', next_tick = date_trunc('second', now()) {of_tick} and d.id = s.dag;
         {reported}"
    ));
    let held = format!(
        "select count(*) {of_tick} and exists (select from quarantine q where q.dag = d.id and q.held_at is not null)"
    );
    player.until_sql("a schedule to be quarantined", &held, "1");
    let _ = player.sql(&format!(
        "update schedule s set cron = '@yearly' {of_tick} and d.id = s.dag"
    ));
    let id = player.sql(&format!(
        "select id from quarantine where dag = (select d.id {of_tick})"
    ));
    player.call(&["quarantine", "release", &id], "", "there is no");
    let ticked = format!(
        "select count(*) from run r join cause c on c.id = r.cause where r.id > {} and c.kind = 'schedule'",
        title.last
    );
    player.until_sql("a tick", &ticked, "1");
}

/// The followed branch moves, and another one comes, is run, and goes.
fn branches(player: &mut Player<'_>, name: &str) {
    let branch = format!("side-{name}");
    let remote = &player.fleet.remote;
    remote.push("main", &[("notes", name)]);
    remote.push(&branch, &[("side", name)]);
    player.call(&["repo", "sync", REPO], "", "");
    let request = format!("{name}-side");
    player.trigger(&dag("tick"), &request, &["--ref", &branch]);
    player.fleet.remote.delete(&branch);
    player.call(&["repo", "sync", REPO], "", "");
    let there =
        format!("select count(*) from repo_ref where branch = '{branch}' and sha is not null");
    player.until_sql("the end of a branch", &there, "0");
}

/// Two DAGs come and go again. One is removed; the other one is left to retention, which removes it in the next play.
fn a_dag_goes(player: &mut Player<'_>, name: &str) {
    let gone = format!("gone-{name}");
    let files = [&gone, &format!("left-{name}")].map(|dag| format!("dags/{dag}.yaml"));
    let text = format!("stages: {{only: {{image: \"{IMAGE}\", run: \"true\"}}}}\n");
    let texts = files.each_ref().map(|file| (file.as_str(), text.as_str()));
    player.fleet.remote.push("main", &texts);
    player.call(&["repo", "sync", REPO], "", "");
    for file in &files {
        std::fs::remove_file(player.fleet.remote.tree().join(file)).unwrap();
    }
    player.fleet.remote.push("main", &[]);
    player.call(&["repo", "sync", REPO], "", "");
    player.call(&["dag", "remove", &dag(&gone), "--yes"], "", "there is no");
}

fn collect_garbage(player: &mut Player<'_>, title: &Title) {
    let (volume, image) = (volume(title), image(title));
    let mut looks = 0;
    player.until("the removal of what is old", |fleet| {
        // The daemon lists images at its own time; if that fails, an hour later.
        if looks % 20 == 0 {
            let collected = fleet.first().get().cli(&["gc"]);
            if collected.code != Some(0) {
                return Err(format!("{collected:?}"));
            }
        }
        looks += 1;
        let volumes = ["volume", "ls", "-q", "--filter", VOLUMES];
        let volumes = fleet.engine.docker(&volumes);
        let images = fleet.engine.docker(&["images", "-q", &image]);
        if volumes.contains(&volume) || !images.is_empty() {
            Err(format!("{volumes} {images}"))
        } else {
            Ok(())
        }
    });
}
