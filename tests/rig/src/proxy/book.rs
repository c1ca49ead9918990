//! The book of a proxy: the rules that hold, how often each may still strike, and what struck.

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
    /// When.
    pub at: DateTime<Utc>,
    /// The rule's name.
    pub rule: String,
    /// What it did.
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
            self.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            self.rule,
            self.action,
            self.connection,
            self.hit
        )
    }
}

#[derive(Debug)]
struct Entry {
    rule: Rule,
    let_go: u32,
    struck: u32,
}

#[derive(Debug)]
pub(super) struct Book {
    entries: Vec<Entry>,
    dice: Dice,
    pub(super) fired: Vec<Fired>,
}

impl Book {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            dice: Dice::new(seed),
            fired: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.entries.push(Entry {
            rule,
            let_go: 0,
            struck: 0,
        });
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.entries.iter().map(|entry| &entry.rule)
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

/// The beginning of a unit, in one line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]);
    let line = text.split("\r\n").next().unwrap_or_default();
    line.chars()
        .map(|letter| if letter.is_control() { '.' } else { letter })
        .collect()
}
