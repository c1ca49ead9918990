//! `triggers`: what may start a run.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use trainyard_core::cron::Cron;
use trainyard_core::dag::Names;
use trainyard_core::name::ParamName;
use trainyard_core::param::{ParamSpec, ParamValue};
use trainyard_core::schedule::Missed;
use trainyard_core::text::shortened;
use trainyard_core::trigger::{Pattern, PatternFault, PushTrigger, ScheduleTrigger, Triggers};

use super::places::Places;
use super::{FileReader, params};
use crate::diagnostic::DiagnosticCode as Code;
use crate::document;
use crate::tree::{Node, Value};

/// The most schedules of one DAG.
const SCHEDULES_AT_MOST: usize = 50;

/// The most patterns of one list; each is matched against every branch or changed file of a push.
const PATTERNS_AT_MOST: usize = 100;

impl FileReader<'_> {
    /// Reads `triggers`.
    pub(super) fn triggers(
        &mut self,
        node: &Node,
        declared: &BTreeMap<ParamName, ParamSpec>,
        unread: &Names,
        places: &mut Places,
    ) -> Triggers {
        let Some(fields) = self.fields(node, "triggers", document::Triggers::FORM) else {
            return Triggers::default();
        };
        let mut schedule = Vec::new();
        if let Some(node) = fields.get("schedule") {
            let items = match &node.value {
                Value::Map(_) => vec![node],
                _ => self
                    .list(node, "`schedule`")
                    .unwrap_or_default()
                    .iter()
                    .collect(),
            };
            if items.len() > SCHEDULES_AT_MOST {
                let message = format!("a DAG may have at most {SCHEDULES_AT_MOST} schedules");
                self.invalid(&node.span, message);
            }
            for item in items.into_iter().take(SCHEDULES_AT_MOST) {
                if let Some(trigger) = self.schedule(item, declared, unread) {
                    schedule.push(trigger);
                    places.schedules.push(item.span.clone());
                }
            }
        }
        let push = fields.get("push").and_then(|node| self.push(node));
        if let Some(node) = fields.get("manual") {
            // Starting by hand is always possible, and may be written out.
            if !matches!(&node.value, Value::Null) {
                self.fields(node, "`manual`", document::Empty::FORM);
            }
        }
        places.push = fields.key("push").map(|key| key.span.clone());
        Triggers { schedule, push }
    }

    fn schedule(
        &mut self,
        node: &Node,
        declared: &BTreeMap<ParamName, ParamSpec>,
        unread: &Names,
    ) -> Option<ScheduleTrigger> {
        if let Value::Scalar { text, .. } = &node.value {
            self.sink
                .error(
                    Code::WrongType,
                    node.span.clone(),
                    "a schedule must be a map",
                )
                .help(format!("write `- cron: \"{}\"`", shortened(text)));
            return None;
        }
        let fields = self.fields(node, "a schedule", document::Schedule::FORM)?;
        let cron = match fields.get("cron") {
            None => {
                if fields.lacks("cron") {
                    self.sink
                        .error(Code::Missing, node.span.clone(), "a schedule needs `cron`");
                }
                None
            }
            Some(node) => self.cron(node),
        };
        let timezone = match fields.get("timezone") {
            None => Some(Tz::UTC),
            Some(node) => self.timezone(node),
        };
        let choices = Missed::ALL.map(|missed| (missed.as_str(), missed));
        let missed = fields
            .get("missed")
            .and_then(|node| self.one_of(node, "`missed`", &choices));
        let mut params = fields
            .get("params")
            .map(|node| self.given(node, declared, unread))
            .unwrap_or_default();
        if fields.is_meant("params") {
            params = anything(declared);
        }
        Some(ScheduleTrigger {
            cron: cron?,
            timezone: timezone?,
            missed: missed.unwrap_or_default(),
            params,
        })
    }

    fn cron(&mut self, node: &Node) -> Option<Cron> {
        let text = self.text(node, "`cron`")?;
        match Cron::parse(text) {
            Ok(cron) => Some(cron),
            Err(faults) => {
                for fault in faults {
                    let span = self.part(node, &fault.range);
                    self.sink
                        .error(Code::InvalidValue, span, fault.message)
                        .maybe_help(fault.help);
                }
                None
            }
        }
    }

    fn timezone(&mut self, node: &Node) -> Option<Tz> {
        let text = self.text(node, "the time zone")?;
        if let Ok(timezone) = text.parse() {
            return Some(timezone);
        }
        let help = zone_of_offset(text).or_else(|| zone_of_abbreviation(text));
        let help = help.or_else(|| {
            let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            // `Berlin` alone.
            let city = |name: &&str| {
                let (_, city) = name.rsplit_once('/').unwrap_or_default();
                city.eq_ignore_ascii_case(text)
            };
            let name = names()
                .find(city)
                .or_else(|| self.sink.nearest(text, names()))?;
            Some(format!("did you mean `{name}`?"))
        });
        self.sink
            .error(
                Code::InvalidValue,
                node.span.clone(),
                format!("there is no time zone `{}`", shortened(text)),
            )
            .help(help.unwrap_or_else(|| {
                "use a name of the tz database, as in Europe/Berlin".to_owned()
            }));
        None
    }
}

/// The zone that is a whole number of hours from UTC, for one that is written as `UTC+2`. The nearest name would
/// be another offset.
fn zone_of_offset(text: &str) -> Option<String> {
    let upper = text.trim().to_ascii_uppercase();
    let offset = upper.trim_start_matches("UTC").trim_start_matches("GMT");
    let (sign, hours, east) = match offset.split_at_checked(1)? {
        ("+", hours) => ('-', hours, true),
        ("-", hours) => ('+', hours, false),
        _ => return None,
    };
    let hours = hours.trim_end_matches("00").trim_end_matches(':');
    let hours: u8 = hours.parse().ok().filter(|hours| *hours > 0)?;
    let zone: Tz = format!("Etc/GMT{sign}{hours}").parse().ok()?;
    let way = if east { "ahead of" } else { "behind" };
    Some(format!(
        "`{}` is {hours} h {way} UTC (its sign is reversed); a name as Europe/Berlin knows daylight saving time",
        zone.name()
    ))
}

/// A zone with this abbreviation. The nearest name would be another zone's.
fn zone_of_abbreviation(text: &str) -> Option<String> {
    let zone = match text.trim().to_ascii_uppercase().as_str() {
        "PST" | "PDT" | "PT" => "America/Los_Angeles",
        "MDT" | "MT" => "America/Denver",
        "CST" | "CDT" | "CT" => "America/Chicago",
        "EDT" | "ET" => "America/New_York",
        "AKST" | "AKDT" => "America/Anchorage",
        "BRT" => "America/Sao_Paulo",
        "BST" => "Europe/London",
        "CEST" => "Europe/Berlin",
        "EEST" => "Europe/Athens",
        "MSK" => "Europe/Moscow",
        "IST" => "Asia/Kolkata",
        "SGT" => "Asia/Singapore",
        "HKT" => "Asia/Hong_Kong",
        "JST" => "Asia/Tokyo",
        "KST" => "Asia/Seoul",
        "AEST" | "AEDT" => "Australia/Sydney",
        "AWST" => "Australia/Perth",
        "NZST" | "NZDT" => "Pacific/Auckland",
        _ => return None,
    };
    Some(format!(
        "an abbreviation may mean several zones; write a name, as in `{zone}`"
    ))
}

impl FileReader<'_> {
    fn given(
        &mut self,
        node: &Node,
        declared: &BTreeMap<ParamName, ParamSpec>,
        unread: &Names,
    ) -> BTreeMap<ParamName, ParamValue> {
        let mut values = BTreeMap::new();
        let Some(entries) = self.map(node, "the schedule's params") else {
            return anything(declared);
        };
        for (key, value) in entries {
            let Some((name, spec)) = declared.get_key_value(&*key.text) else {
                if unread.contain(&key.text) {
                    continue;
                }
                let known = declared.keys().map(ParamName::as_str);
                let help = self
                    .sink
                    .nearest(&key.text, known)
                    .map(|name| format!("did you mean `{name}`?"));
                let message = format!("the DAG declares no parameter `{}`", shortened(&key.text));
                self.sink
                    .error(Code::InvalidValue, key.span.clone(), message)
                    .maybe_help(help);
                continue;
            };
            let what = format!("parameter `{name}`");
            let value = self.param_value(&what, &spec.kind, value);
            values.insert(
                name.clone(),
                value.unwrap_or_else(|| params::any(&spec.kind)),
            );
        }
        values
    }
}

/// A value for each parameter, where those that are given cannot be read.
fn anything(declared: &BTreeMap<ParamName, ParamSpec>) -> BTreeMap<ParamName, ParamValue> {
    declared
        .iter()
        .map(|(name, spec)| (name.clone(), params::any(&spec.kind)))
        .collect()
}

impl FileReader<'_> {
    fn push(&mut self, node: &Node) -> Option<PushTrigger> {
        if matches!(node.value, Value::Null) {
            return Some(PushTrigger::default());
        }
        let fields = self.fields(node, "`push`", document::Push::FORM)?;
        let branches = fields
            .get("branches")
            .map(|node| self.patterns(node, "a branch", Pattern::branch_fault));
        let paths = fields
            .get("paths")
            .map(|node| self.patterns(node, "a path", Pattern::path_fault));
        Some(PushTrigger {
            branches: branches.unwrap_or_default(),
            paths: paths.unwrap_or_default(),
        })
    }

    /// A list of patterns, with what says why one of them matches nothing.
    pub(super) fn patterns(
        &mut self,
        node: &Node,
        what: &str,
        fault: fn(&Pattern) -> Option<PatternFault>,
    ) -> Vec<Pattern> {
        let items = self.list_or_one(node, what);
        if items.is_empty() && matches!(&node.value, Value::List(_)) {
            self.invalid(
                &node.span,
                "an empty list matches nothing; leave the key out to match all".to_owned(),
            );
        }
        if items.len() > PATTERNS_AT_MOST {
            let message = format!("a list may have at most {PATTERNS_AT_MOST} patterns");
            self.invalid(&node.span, message);
        }
        let mut patterns = Vec::new();
        for item in items.into_iter().take(PATTERNS_AT_MOST) {
            let Some(text) = self.text(item, what) else {
                continue;
            };
            match Pattern::new(text) {
                Ok(pattern) => {
                    if what == "a path" {
                        self.sink.outside.add_filter(text, item.span.clone());
                    }
                    if let Some(PatternFault { problem, meant }) = fault(&pattern) {
                        let message = format!(
                            "the pattern `{}` matches nothing: it {problem}",
                            shortened(text)
                        );
                        self.sink
                            .error(Code::InvalidValue, item.span.clone(), message)
                            .maybe_help(
                                meant.map(|meant| format!("write `{}`", shortened(&meant))),
                            );
                    }
                    patterns.push(pattern);
                }
                Err(problem) => {
                    self.invalid(
                        &item.span,
                        format!("the pattern `{}` {problem}", shortened(text)),
                    );
                }
            }
        }
        patterns
    }
}
