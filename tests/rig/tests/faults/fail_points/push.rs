//! The act of a push, reported by a webhook, with all that follows: an image is built and another pulled, an output
//! is passed on, a metric is judged, a stage fails first, one prints too much, and one gets a secret.

use trainyard_rig::fleet::{REPO, WEBHOOK_SECRET};
use trainyard_tests::webhook::Delivery;

use super::play::{Title, expect};
use super::player::Player;
use super::scenery::LINES;

pub(super) struct Push {
    head: String,
}

impl Push {
    /// How its runs end.
    pub(super) const ENDS: [&str; 1] = ["work push succeeded"];

    pub(super) fn enter(player: &mut Player<'_>, title: &Title) -> Self {
        let Title { name, .. } = title;
        let set = ["secret", "set", "WORD", "--repo", REPO];
        player.call(&set, &format!("sesame {name}"), "");
        let before = player.sql(&format!(
            "select sha from repo_ref f join repo r on r.id = f.repo where r.name = '{REPO}' and branch = 'main'"
        ));
        let head = player
            .fleet
            .remote
            .push("main", &[("data/is", name), ("image/stamp", name)]);
        let delivery = Delivery::of_push(WEBHOOK_SECRET, name, "main", &before, &head);
        player.until("an answer to a webhook", |fleet| {
            match delivery.try_send(fleet.first().get().url(), REPO) {
                Ok(200 | 202) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        let run = format!(
            "select count(*) from run r join cause c on c.id = r.cause
             where c.kind = 'push' and c.commit = '{head}'"
        );
        player.until_sql("a run of the push", &run, "1");
        Self { head }
    }

    /// Once all has ended.
    pub(super) fn judge(&self, player: &mut Player<'_>, title: &Title) -> Vec<String> {
        let (Self { head }, Title { name, .. }) = (self, title);
        // A sync that failed over its last step has started the run, and is made again a poll later.
        player.until_sql(
            "the delivery, kept once and processed",
            &format!(
                "select count(*) || ' ' || count(processed_at) from delivery where delivery_id = '{name}'"
            ),
            "1 1",
        );
        let run = player.sql(&format!(
            "select r.id from run r join cause c on c.id = r.cause
             where c.kind = 'push' and c.commit = '{head}'"
        ));
        let log = player.call(&["run", "logs", &run, "chatty"], "", "").stdout;
        let last = log.trim_end().lines().last().unwrap_or_default();
        expect("the log's last line", last, &LINES.to_string())
    }
}
