//! The act of a seat: a run has it and is cancelled, two wait for it, and when it is free they cannot be read. One is
//! cancelled, the other goes on once its version is fixed.

use super::play::Title;
use super::player::Player;
use super::scenery::dag;

pub(super) struct Seat {
    held: i64,
    /// The first goes on, the second is cancelled.
    sick: [i64; 2],
    /// Their version of the DAG, and what it should be.
    version: String,
    spec: String,
}

impl Seat {
    /// How its runs end.
    pub(super) const ENDS: [&str; 3] = [
        "held manual cancelled",
        "sick manual errored",
        "sick manual succeeded",
    ];

    pub(super) fn enter(player: &mut Player<'_>, title: &Title) -> Self {
        let name = &title.name;
        let held = player.trigger(&dag("held"), &format!("{name}-held"), &[]);
        let sick = ["one", "other"]
            .map(|which| player.trigger(&dag("sick"), &format!("{name}-{which}"), &[]));
        let version = player.sql(&format!(
            "select string_agg(distinct dag_version::text, ' ') from run where id in ({}, {})",
            sick[0], sick[1]
        ));
        Self {
            held,
            sick,
            spec: player.sql(&format!(
                "select spec from dag_version where id = '{version}'"
            )),
            version,
        }
    }

    /// The version becomes unreadable, once the seat is taken.
    pub(super) fn spoil(self, player: &mut Player<'_>) -> Self {
        let held = format!("{}.", self.held);
        player.until("the start of what is held", |fleet| {
            let accounts = fleet.witness.accounts();
            let started = accounts.keys().any(|attempt| attempt.starts_with(&held));
            started.then_some(()).ok_or_else(|| "not yet".to_owned())
        });
        self.write(player, "{\"format\": 1, \"stages\": 17}");
        self
    }

    /// The seat becomes free.
    pub(super) fn heal(&mut self, player: &mut Player<'_>) {
        let [one, other] = self.sick;
        let cancel = |player: &mut Player<'_>, run: i64| {
            player.call(
                &["run", "cancel", &run.to_string()],
                "",
                "has ended already",
            );
        };
        cancel(player, self.held);
        let quarantined = format!(
            "select count(*) from quarantine where run in ({one}, {other}) and held_at is not null"
        );
        player.until_sql("both to be quarantined", &quarantined, "2");
        cancel(player, other);
        self.write(player, &self.spec);
        let id = player.sql(&format!("select id from quarantine where run = {one}"));
        player.call(&["quarantine", "release", &id], "", "there is no");
    }

    fn write(&self, player: &Player<'_>, spec: &str) {
        let version = &self.version;
        let _ = player.sql(&format!(
            "update dag_version set spec = $spec${spec}$spec$ where id = '{version}'"
        ));
    }
}
