//! Clocks that jump while the machine's stays as it is: the database's, which decides, and the daemons' own, which
//! stamp.
//!
//! The database's is two functions of the names that the daemons' statements call, `clock_timestamp`
//! and `now`, in a schema that their search path has before Postgres' own. They add what a row of one
//! table says, so a jump is a commit: whatever statement begins after it sees it. What a migration has
//! bound to Postgres' own functions (a default) is not reached; the daemons' statements name their
//! times themselves. The daemons' clock is a file that a build with fail points reads.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use trainyard_failpoint::CLOCK;
use trainyard_tests::place::Place;

use crate::cluster::PrivateCluster;
use crate::fleet::Fleet;

/// Not first in the path: what is made without a schema still goes where it always went.
const INSTALL: &str = "
    create schema rigged;
    create table rigged.clock (ahead interval not null);
    insert into rigged.clock values ('0');
    create function rigged.clock_timestamp() returns timestamptz volatile language plpgsql as
        'begin return pg_catalog.clock_timestamp() + (select ahead from rigged.clock); end';
    create function rigged.now() returns timestamptz stable language plpgsql as
        'begin return pg_catalog.now() + (select ahead from rigged.clock); end';
    alter database trainyard set search_path = public, rigged, pg_catalog;
";

/// The clocks of a fleet.
#[derive(Debug)]
pub struct Clocks {
    file: PathBuf,
    daemons: TimeDelta,
    _place: Place,
}

impl Clocks {
    /// Takes the clocks of a fleet in hand; its daemons are started again for it. They are right at first.
    ///
    /// # Panics
    /// When a daemon does not start.
    #[must_use]
    pub fn of(fleet: &mut Fleet) -> Self {
        let place = Place::new();
        let clocks = Self {
            file: place.join("clock"),
            daemons: TimeDelta::zero(),
            _place: place,
        };
        clocks.write_for_daemons();
        let _ = fleet.cluster.sql(INSTALL);
        for daemon in &mut fleet.daemons {
            let file = clocks.file.display().to_string();
            daemon.set_variables(vec![(CLOCK.to_owned(), file)]);
            daemon.restart_after(Duration::ZERO);
        }
        clocks
    }

    /// The database's clock jumps.
    ///
    /// # Panics
    /// When the database is down.
    pub fn jump_database(&self, cluster: &PrivateCluster, by: TimeDelta) {
        let _ = cluster.sql(&format!(
            "update rigged.clock set ahead = ahead + interval '{} ms'",
            by.num_milliseconds()
        ));
    }

    /// Sets the database's clock.
    ///
    /// # Panics
    /// When the database is down.
    pub fn set_database(&self, cluster: &PrivateCluster, to: DateTime<Utc>) {
        let _ = cluster.sql(&format!(
            "update rigged.clock set ahead = '{}'::timestamptz - pg_catalog.clock_timestamp()",
            to.to_rfc3339()
        ));
    }

    /// The time of the database's clock.
    ///
    /// # Panics
    /// When the database is down.
    #[must_use]
    pub fn database(&self, cluster: &PrivateCluster) -> DateTime<Utc> {
        let text = cluster.sql("select (extract(epoch from clock_timestamp()) * 1000)::bigint");
        DateTime::from_timestamp_millis(text.parse().unwrap()).unwrap()
    }

    /// The clocks of all daemons jump.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn jump_daemons(&mut self, by: TimeDelta) {
        self.daemons += by;
        self.write_for_daemons();
    }

    fn write_for_daemons(&self) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, self.daemons.num_milliseconds().to_string()).unwrap();
        // Atomically: no reader sees half of it.
        std::fs::rename(&new, &self.file).unwrap();
    }
}
