//! The book of a proxy: the rules that hold, how often each may still strike, those that held before, and
//! what struck.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use super::rule::{Action, Rule};
use super::wire::{Direction, Unit};
use crate::dice::Dice;
use crate::moment;

/// How much of what was struck is recorded.
const SHOWN: usize = 100;

/// A fault that struck.
#[derive(Debug, Clone)]
pub struct Fired {
    pub at: DateTime<Utc>,
    pub rule: String,
    pub action: Action,
    /// The connection's number, from 1.
    pub connection: u64,
    /// The beginning of what it struck; empty for a connection.
    pub hit: String,
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {:?} connection {}: {}",
            stamp(self.at),
            self.rule,
            self.action,
            self.connection,
            self.hit
        )
    }
}

/// A rule, and what came of it so far.
#[derive(Debug)]
struct Entry {
    rule: Rule,
    added: DateTime<Utc>,
    let_go: u32,
    struck: u32,
}

/// A rule that no longer applies, and since when. Most trials let everything pass before they judge, so these say
/// what the trials broke.
#[derive(Debug)]
struct Former {
    entry: Entry,
    removed: DateTime<Utc>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "struck {}, passed {}: {:?}",
            self.struck, self.let_go, self.rule
        )
    }
}

#[derive(Debug)]
pub(super) struct Book {
    entries: Vec<Entry>,
    /// In the order of their removal.
    former: Vec<Former>,
    dice: Dice,
    pub(super) fired: Vec<Fired>,
}

impl Book {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            former: Vec::new(),
            dice: Dice::new(seed),
            fired: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.entries.push(Entry {
            rule,
            added: moment::now(),
            let_go: 0,
            struck: 0,
        });
    }

    pub(super) fn clear(&mut self) {
        let removed = moment::now();
        let gone = self.entries.drain(..);
        self.former
            .extend(gone.map(|entry| Former { entry, removed }));
    }

    pub(super) fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Every rule there ever was and everything that struck, a line each, in the order of their coming.
    pub(super) fn record(&self) -> String {
        let mut text = String::new();
        for Former { entry, removed } in &self.former {
            text.push_str(&format!(
                "rule from {} to {}, {entry}\n",
                stamp(entry.added),
                stamp(*removed)
            ));
        }
        for entry in &self.entries {
            text.push_str(&format!("rule from {}, {entry}\n", stamp(entry.added)));
        }
        for fired in &self.fired {
            text.push_str(&format!("{fired}\n"));
        }
        text
    }

    /// How often the rules of this name that hold have struck.
    pub(super) fn struck(&self, name: &str) -> usize {
        let named = self.entries.iter().filter(|entry| entry.rule.name == name);
        named.map(|entry| entry.struck as usize).sum()
    }

    /// The first rule that strikes; it is recorded.
    pub(super) fn strike(
        &mut self,
        connection: u64,
        passing: Option<(Direction, &Unit)>,
    ) -> Option<Action> {
        for entry in &mut self.entries {
            let rule = &entry.rule;
            if entry.struck >= rule.times || !rule.when.fits(connection, passing) {
                continue;
            }
            if entry.let_go < rule.when.after {
                entry.let_go += 1;
                continue;
            }
            if !self.dice.chance(rule.when.probability) {
                continue;
            }
            entry.struck += 1;
            self.fired.push(Fired {
                at: moment::now(),
                rule: rule.name.clone(),
                action: rule.action.clone(),
                connection,
                hit: passing
                    .map(|(_, unit)| shown(&unit.bytes))
                    .unwrap_or_default(),
            });
            return Some(rule.action.clone());
        }
        None
    }
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The beginning of a unit, in one line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]);
    let line = text.split("\r\n").next().unwrap_or_default();
    line.chars()
        .map(|letter| if letter.is_control() { '.' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Matcher;

    fn rule(name: &str) -> Rule {
        Rule::once(name, Matcher::connections().after(1), Action::Reset)
    }

    #[test]
    fn rules_that_hold_no_more_stay_in_the_record() {
        let mut book = Book::new(1);
        book.add(rule("first"));
        assert_eq!(book.strike(1, None), None, "one passes");
        assert_eq!(book.strike(2, None), Some(Action::Reset));
        book.clear();
        book.add(rule("second"));
        assert_eq!(book.struck("first"), 0, "it no longer applies");
        let record = book.record();
        let lines: Vec<&str> = record.lines().collect();
        let [former, holds, fired] = lines[..] else {
            panic!("{record}");
        };
        assert!(former.starts_with("rule from 2"), "{former}");
        assert!(former.contains(" to 2"), "{former}");
        assert!(former.contains("struck 1, passed 1: Rule"), "{former}");
        assert!(former.contains("\"first\""), "{former}");
        assert!(!holds.contains(" to 2"), "{holds}");
        assert!(holds.contains("struck 0, passed 0: Rule"), "{holds}");
        assert!(holds.contains("\"second\""), "{holds}");
        assert!(fired.contains("first Reset connection 2"), "{fired}");
    }
}
