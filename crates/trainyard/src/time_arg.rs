//! Times on the command line, as `--since` and `--until` take them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use trainyard_api::Timestamp;
use trainyard_daemon::config::Span;

use crate::clock;
use crate::failure::Failure;
use trainyard_present::zone::Zone;

/// A time as it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeArg {
    /// This long ago.
    Ago(std::time::Duration),
    /// At a moment.
    At(Timestamp),
    /// At a moment in the time zone that times are shown in.
    Clock(NaiveDateTime),
}

pub(crate) fn parse(text: &str) -> Result<TimeArg, &'static str> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(TimeArg::Ago(span.0));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(TimeArg::At(at.with_timezone(&Utc)));
    }
    let text = text.replace(' ', "T");
    let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d");
    let moment = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok());
    date.map(|date| date.and_time(NaiveTime::MIN))
        .ok()
        .or(moment)
        .map(TimeArg::Clock)
        .ok_or("expected a time such as `2h`, `7d`, `2026-11-23` or `2026-11-23T15:00`")
}

impl TimeArg {
    /// The moment that it is. `option` names it in the error.
    pub(crate) fn moment(self, option: &str, zone: Zone) -> Result<Timestamp, Failure> {
        self.at(clock::now(), zone).ok_or_else(|| {
            Failure::usage(format!(
                "the time of {option} does not exist in this machine's time zone"
            ))
        })
    }

    fn at(self, now: Timestamp, zone: Zone) -> Option<Timestamp> {
        match (self, zone) {
            (Self::Ago(time), _) => now.checked_sub_signed(chrono::Duration::from_std(time).ok()?),
            (Self::At(at), _) => Some(at),
            (Self::Clock(clock), Zone::Utc) => Some(clock.and_utc()),
            // If a change of the clock repeats an hour, the first pass counts.
            (Self::Clock(clock), Zone::Local) => chrono::Local
                .from_local_datetime(&clock)
                .earliest()
                .map(|at| at.with_timezone(&Utc)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_age_a_date_or_a_moment() {
        let now: Timestamp = "2026-11-23T15:00:00Z".parse().unwrap();
        let at = |text: &str| {
            let given = parse(text).unwrap();
            given.at(now, Zone::Utc).unwrap().to_rfc3339()
        };
        assert_eq!(at("2h"), "2026-11-23T13:00:00+00:00");
        assert_eq!(at("2026-11-20"), "2026-11-20T00:00:00+00:00");
        assert_eq!(at("2026-11-20T08:30"), "2026-11-20T08:30:00+00:00");
        assert_eq!(at("2026-11-20 08:30:05"), "2026-11-20T08:30:05+00:00");
        assert_eq!(at("2026-11-20T08:30:00+02:00"), "2026-11-20T06:30:00+00:00");
        assert!(parse("yesterday").is_err());
    }
}
