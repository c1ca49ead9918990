//! Golden files: `golden/1` has documents as format 1 stores them. They are never changed, only added to before the
//! format is released: databases hold such documents, and daemons of other versions read them.
//!
//! A test that fails here has found a change that stored rows do not survive. Take the change back, or give it a new
//! format (the head of [`super`] says how).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::value::Error as NoFields;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Value, json};
use trainyard_core::Timestamp;
use trainyard_core::cause::CauseKind;
use trainyard_core::dag::Dag;
use trainyard_core::event::{AttemptEnd, Effect, Ending, Event};
use trainyard_core::id::RunId;
use trainyard_core::outcome::{Outcome, Reason, ReasonCode};
use trainyard_core::overlap::Overlap;
use trainyard_core::retry::Retry;
use trainyard_core::run::{
    Attempt, AttemptRef, AttemptState, CancelledBy, Run, RunFacts, RunPhase, StageRun, StageState,
};
use trainyard_core::schedule::Missed;
use trainyard_core::stage::{PullPolicy, RunOn, StageIndex};

use super::cause::{AgainDoc, CauseDoc, RetryAtDoc};
use super::dag::{DagDoc, PushDoc, ScheduleDoc};
use super::event::event_row;
use super::param::{KindDoc, SpecDoc, ValueDoc, ValuesDoc, values, values_doc};
use super::stage::{
    CommandDoc, GateDoc, ImageDoc, InputDoc, ResourcesDoc, RetryDoc, StageDoc, TextDoc,
};
use super::{FORMAT, write};
use crate::fleet::health::HealthProblem;
use crate::triggers::repos::CredentialsDoc;

/// A golden file of a format.
fn golden(format: i32, name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("src/db/encoding/golden/{format}/{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Reads each document of a file into the type that the program uses, and writes it again.
fn stays<D: DeserializeOwned>(format: i32, name: &str, again: impl Fn(D) -> Value) {
    for document in golden(format, name).as_array().unwrap() {
        let read = serde_json::from_value(document.clone())
            .unwrap_or_else(|error| panic!("{name} of format {format}: {error} in {document:#}"));
        assert_eq!(again(read), *document, "{name} of format {format}");
    }
}

#[test]
fn documents_of_every_format_are_read_and_written_as_they_were() {
    for format in 1..=FORMAT {
        stays(format, "dags", |doc: DagDoc| {
            write(&DagDoc::from(&Dag::try_from(doc).unwrap()))
        });
    }
    stays(1, "causes", |doc: CauseDoc| {
        write(&CauseDoc::from(&CauseKind::try_from(doc).unwrap()))
    });
    stays(1, "params", |doc: ValuesDoc| {
        write(&values_doc(&values(doc).unwrap()))
    });
    stays(1, "pools", |pools: Value| {
        let read = crate::attempts::claim::pools(Some(pools)).unwrap();
        let written: BTreeMap<&str, u32> =
            read.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        json!(written)
    });
    stays(1, "credentials", |doc: CredentialsDoc| write(&doc));
    stays(1, "troubles", |trouble: HealthProblem| write(&trouble));
}

#[test]
fn words_of_columns_are_read_as_they_were() {
    let words: BTreeMap<String, Vec<String>> = serde_json::from_value(golden(1, "words")).unwrap();
    for word in &words["outcomes"] {
        assert_eq!(Outcome::from_word(word).unwrap().as_str(), word);
    }
    for word in &words["reasons"] {
        assert_eq!(ReasonCode::from_word(word).unwrap().as_str(), word);
    }
}

#[test]
fn events_are_recorded_as_they_were() {
    let at: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
    let attempt = AttemptRef {
        stage: StageIndex(0),
        number: 1,
    };
    let (outcome, why) = (
        Outcome::Failed,
        Reason::new(ReasonCode::ExitCode, "exit code 1"),
    );
    let by = CancelledBy::Actor("ada".into());
    let after = Run {
        facts: RunFacts {
            id: RunId(7),
            repo: None,
            dag: "a".parse().unwrap(),
            cause: "manual".into(),
            commit: String::new(),
            branch: None,
            logical_time: at,
            params: BTreeMap::new(),
        },
        phase: RunPhase::Running { since: at },
        cancel: None,
        stages: vec![StageRun {
            state: StageState::Active,
            attempts: vec![Attempt {
                state: AttemptState::Finished {
                    at,
                    outcome,
                    reason: Some(why.clone()),
                },
                stop: Some((at, by.reason())),
            }],
            metrics: BTreeMap::new(),
            image: None,
            reused_from: None,
        }],
    };
    let stage = StageIndex(0);
    let end = AttemptEnd {
        ending: Ending::Withdrawn,
        ended_at: at,
        ran_for: None,
        metrics: BTreeMap::new(),
    };
    let requested = |by| Event::CancelRequested { by };
    let events = [
        Event::RunStarted,
        Event::RunSkipped {
            because_of: RunId(6),
        },
        requested(by.clone()),
        requested(CancelledBy::Newer(RunId(8))),
        requested(CancelledBy::Timeout),
        Event::TimeoutPassed(attempt),
        Event::AttemptFinished { attempt, end },
        Event::Planned(Effect::TimeOutRun),
        Event::Planned(Effect::QueueAttempt(attempt)),
        Event::Planned(Effect::BackOff { stage, until: at }),
        Event::Planned(Effect::RequestStop {
            attempt,
            why: by.reason(),
        }),
        Event::Planned(Effect::WithdrawAttempt {
            attempt,
            why: by.reason(),
        }),
        Event::Planned(Effect::FinishStage {
            stage,
            outcome,
            reason: Some(why),
        }),
        Event::Planned(Effect::FinishRun {
            outcome: Outcome::Succeeded,
            reason: None,
        }),
    ];
    let rows = events.iter().map(|event| {
        let row = event_row(event, &after, at);
        json!({"kind": row.kind, "stage": row.stage, "attempt": row.attempt, "detail": row.detail})
    });
    let rows: Vec<Value> = rows.collect();
    let golden = golden(1, "events");
    let golden = golden.as_array().unwrap();
    assert_eq!(rows.len(), golden.len());
    for (row, golden) in rows.iter().zip(golden) {
        assert_eq!(row, golden);
    }
}

/// The fields of a struct, or the variants of an enum, as they are in JSON.
fn names<D: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    let asked = D::deserialize(Names(&mut found));
    assert!(asked.is_err() && !found.is_empty());
    found
}

struct Names<'f>(&'f mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = NoFields;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoFields> {
        *self.0 = fields;
        Err(NoFields::custom("these are its fields"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoFields> {
        self.deserialize_struct(name, variants, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoFields> {
        Err(NoFields::custom("neither a struct nor an enum"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// All keys and texts of a document.
fn collect(document: &Value, into: &mut BTreeSet<String>) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(entries) => {
            for (key, value) in entries {
                into.insert(key.clone());
                collect(value, into);
            }
        }
        Value::String(text) => {
            into.insert(text.clone());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn every_key_and_every_word_is_of_a_format() {
    let mut known = BTreeSet::new();
    for format in 1..=FORMAT {
        collect(&golden(format, "dags"), &mut known);
    }
    for name in ["causes", "params"] {
        collect(&golden(1, name), &mut known);
    }
    let keys = [
        names::<DagDoc>(),
        names::<ScheduleDoc>(),
        names::<PushDoc>(),
        names::<SpecDoc>(),
        names::<KindDoc>(),
        names::<ValueDoc>(),
        names::<StageDoc>(),
        names::<TextDoc>(),
        names::<ImageDoc>(),
        names::<CommandDoc>(),
        names::<InputDoc>(),
        names::<GateDoc>(),
        names::<RetryDoc>(),
        names::<ResourcesDoc>(),
        names::<CauseDoc>(),
        names::<RetryAtDoc>(),
        names::<AgainDoc>(),
    ];
    let words = [
        Overlap::ALL.map(Overlap::as_str).to_vec(),
        Missed::ALL.map(Missed::as_str).to_vec(),
        RunOn::ALL.map(RunOn::as_str).to_vec(),
        PullPolicy::ALL.map(PullPolicy::as_str).to_vec(),
        Retry::CHOICES.map(Outcome::as_str).to_vec(),
    ];
    for word in keys.into_iter().flatten().chain(words.iter().flatten()) {
        assert!(
            known.contains(*word),
            "`{word}` is in no golden file: daemons before it do not read it, so it needs a new format; the head of \
             encoding/mod.rs says how"
        );
    }
}
