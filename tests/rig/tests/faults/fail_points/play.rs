//! The play: everything a daemon does, in acts that can be left out, so that it comes to every place and
//! soon to most of them.

use trainyard_rig::proxy::{Action, Matcher, Rule};

use super::office::Office;
use super::player::Player;
use super::push::Push;
use super::seat::Seat;

/// A part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// Requests of users, schedules, overlap, branches, and retention.
    Office,
    /// A push with all that follows.
    Push,
    /// Runs that wait for a seat, one that is cancelled, and two that cannot be read.
    Seat,
}

impl Act {
    pub(super) const ALL: [Self; 3] = [Self::Office, Self::Push, Self::Seat];
}

/// Further faults of a play, for places that a play without faults does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mishaps {
    /// Docker refuses the files of a container: it is removed. The answer that another one was created gets lost.
    pub(super) container: bool,
    /// Docker is out of reach for a while, which other daemons can read.
    pub(super) engine: bool,
}

/// The calls that fail if containers are to be made with errors.
pub(super) const NO_CONTAINER: &str =
    "docker.upload.before=err@1;docker.create_container.after=err@2";

/// How often Docker is out of reach: long enough to be reported, and to be asked less and less often.
const OUT_OF_REACH: u32 = 4;

/// Everything that ended before is old.
const AGE: &str = "set session_replication_role = replica;
    update run set finished_at = finished_at - interval '1 day' where finished_at is not null;
    update delivery set received_at = received_at - interval '1 day' where processed_at is not null;
    update dag set created_at = created_at - interval '1 day';
    update dag_version set created_at = created_at - interval '1 day';
    update dag_fault set found_at = found_at - interval '1 day';
    update audit set at = at - interval '1 day';
    update daemon set lease_until = lease_until - interval '1 day' where stopped_at is not null";

/// The label of the volumes that inits are in.
pub(super) const VOLUMES: &str = "label=io.trainyard.init.volume";

/// The name of a play.
#[derive(Debug, Clone)]
pub(super) struct Title {
    /// In all names that it gives; no other play has it.
    pub(super) name: String,
    /// The last run before it.
    pub(super) last: i64,
}

/// Plays these acts to their end. Returns the violations.
pub(super) fn play(player: &mut Player<'_>, acts: &[Act], mishaps: Mishaps) -> Vec<String> {
    let title = clear_the_stage(player);
    start(player, mishaps);
    let has = |act| acts.contains(&act);
    let seat = has(Act::Seat).then(|| Seat::enter(player, &title));
    let push = has(Act::Push).then(|| Push::enter(player, &title));
    let mut seat = seat.map(|seat| seat.spoil(player));
    let office = has(Act::Office).then(|| Office::enter(player, &title));
    let mut codes = Vec::new();
    if push.is_some() || seat.is_some() {
        codes.push(player.stop());
        player.start();
    }
    if let Some(seat) = &mut seat {
        seat.heal(player);
    }
    let left = format!(
        "select count(*) from run where id > {} and phase <> 'finished'",
        title.last
    );
    player.until_sql("the end of all runs", &left, "0");
    let mut wrong = Vec::new();
    let mut ends = Vec::new();
    if let Some(office) = office {
        wrong.extend(office.close(player, &title));
        ends.extend(Office::ENDS);
    }
    if let Some(push) = push {
        wrong.extend(push.judge(player, &title));
        ends.extend(Push::ENDS);
    }
    if seat.is_some() {
        ends.extend(Seat::ENDS);
    }
    wrong.extend(judge(player, &title, ends));
    player.see_to_it();
    codes.push(player.stop());
    // A daemon that was killed by a signal is reported as a fall.
    for code in codes.into_iter().flatten().filter(|code| *code != 0) {
        wrong.push(format!("a stop ended with {code}"));
    }
    wrong
}

/// What is there is old, and Docker has no init yet.
fn clear_the_stage(player: &mut Player<'_>) -> Title {
    let _ = player.sql(AGE);
    let last: i64 = player.sql("select nextval('run_id_seq')").parse().unwrap();
    let engine = &player.fleet.engine;
    let volumes = engine.docker(&["volume", "ls", "-q", "--filter", VOLUMES]);
    for volume in volumes.lines() {
        // A container that filled it is left where its removal failed; the next daemon would remove it.
        let left = format!("volume={volume}");
        for container in engine.docker(&["ps", "-aq", "--filter", &left]).lines() {
            let _ = engine.docker(&["rm", container]);
        }
        let _ = engine.docker(&["volume", "rm", volume]);
    }
    Title {
        name: format!("p{last}"),
        last,
    }
}

fn start(player: &mut Player<'_>, mishaps: Mishaps) {
    if mishaps.engine {
        for (path, times) in [
            // The keeper or the housekeeping, depending on which lists first.
            ("/containers/json", OUT_OF_REACH),
            ("/containers/*/json", OUT_OF_REACH),
        ] {
            let when = Matcher::http("GET", path);
            let away = Rule::times("away", when, Action::Reset, times);
            player.fleet.first().docker.add(away);
        }
    }
    player.start();
    if mishaps.engine {
        player.until_reached("store.tell_condition.before");
        player.fleet.first().docker.clear();
    }
}

/// Checks for every play.
fn judge(player: &Player<'_>, title: &Title, mut ends: Vec<&str>) -> Vec<String> {
    let last = title.last;
    ends.sort_unstable();
    let mut wrong = expect(
        "runs ended",
        &player.sql(&format!(
            "select string_agg(said, ', ' order by said collate \"C\") from (
                select d.name || ' ' || c.kind || ' ' || r.state as said from run r
                join dag d on d.id = r.dag join cause c on c.id = r.cause where r.id > {last}) as runs"
        )),
        &ends.join(", "),
    );
    wrong.extend(expect(
        "attempts lost",
        &player.sql(&format!(
            "select count(*) from attempt where run > {last} and outcome = 'lost'"
        )),
        "0",
    ));
    wrong.extend(player.fleet.violations());
    wrong
}

/// A sentence where something was found that was not wanted.
pub(super) fn expect(what: &str, found: &str, wanted: &str) -> Vec<String> {
    let is_it = found == wanted;
    (!is_it)
        .then(|| format!("{what}: {found}, not {wanted}"))
        .into_iter()
        .collect()
}
