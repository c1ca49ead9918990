//! Proves how a container ended: by the record of its init, which counts more than Docker's report.
//!
//! 1. Docker's exit code alone is not a proof: a second start, which the latch refuses, overwrites it, and after a
//!    power cut some Docker engines report 0 for a program that never ended.
//! 2. The init writes its record into the container and into its log. The log is read anyway, so the record in it
//!    costs nothing. Only if it was not seen there is it fetched from the container, which takes Docker some 50 ms.
//! 3. The program may have written anything that is in the container, its latch and log included. It cannot write a
//!    record with the container's nonce (see `trainyard_init`). Anything else found there proves nothing, and is
//!    never an error of Docker.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard::Docker as Client;
use trainyard_init::{End, REFUSED, Record, Unfit};

use super::Engine;
use super::errors::gone;
use super::init::{self, Found, LATCH, START};
use super::labels::FirstProcess;
use super::status;
use crate::contract::{Exit, Proof, Status};
use crate::error::Error;

/// An upper bound on the length of a record, in bytes.
const RECORD_AT_MOST: usize = 1024;

/// How much of a program's name is shown, in characters: a stage can give it any.
const NAME_SHOWN: usize = 200;

/// The longest `PATH` that a message shows, in bytes.
const PATH_SHOWN: usize = 1_000;

/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;

/// A cache of facts about containers that have ended, until they are removed: it saves calls.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<CachedEnds>);

#[derive(Debug, Default)]
struct CachedEnds {
    ended: HashSet<String>,
    /// Records that were seen in logs.
    records: HashMap<String, Record>,
    /// The nonces that records are checked against.
    first: HashMap<String, FirstProcess>,
}

impl Ends {
    /// Notes a record from a log.
    pub(super) fn keep(&self, container: &str, record: Record) {
        self.locked().records.insert(container.to_owned(), record);
    }

    /// Notes that a container has ended.
    pub(super) fn saw(&self, container: &str) {
        self.locked().ended.insert(container.to_owned());
    }

    /// Whether a container is known to have ended: its log is complete.
    pub(super) fn has_ended(&self, container: &str) -> bool {
        self.locked().ended.contains(container)
    }

    pub(super) fn forget(&self, container: &str) {
        let mut known = self.locked();
        known.ended.remove(container);
        known.records.remove(container);
        known.first.remove(container);
    }

    /// Notes which process a container runs first.
    pub(super) fn knows(&self, container: &str, first: FirstProcess) {
        self.locked().first.insert(container.to_owned(), first);
    }

    /// Which process a container runs first; asks Docker if that is not known.
    pub(super) async fn first_process(
        &self,
        client: &Client,
        container: &str,
    ) -> Result<FirstProcess, Error> {
        let known = self.locked().first.get(container).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = status::inspect(client, container).await?;
        let found = found.ok_or_else(|| gone(container))?;
        let labels = found.config.and_then(|config| config.labels);
        let first = FirstProcess::read(&labels.unwrap_or_default());
        self.knows(container, first.clone());
        Ok(first)
    }

    fn record(&self, container: &str) -> Option<Record> {
        self.locked().records.get(container).copied()
    }

    fn locked(&self) -> MutexGuard<'_, CachedEnds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    pub(super) async fn prove(&self, container: &str, seen: &Exit) -> Result<Proof, Error> {
        if let Some(record) = self.ends.record(container) {
            return self.proof_of(container, record, seen).await;
        }
        let nonce = match self.ends.first_process(&self.client, container).await? {
            FirstProcess::Program => return Ok(Proof::by_engine(seen)),
            FirstProcess::OlderInit => None,
            FirstProcess::Init(nonce) => Some(nonce),
        };
        let found = self.fetch(container, LATCH, RECORD_AT_MOST).await?;
        let is_missing = found == Found::Nothing;
        // Content that is not a valid record counts as none.
        let record = match found {
            Found::File(bytes) => Record::parse(&bytes, nonce.as_ref()),
            Found::Nothing | Found::Unfit => None,
        };
        match record {
            Some(record @ (Record::Ended(_) | Record::Never { .. } | Record::Unrun(_))) => {
                return self.proof_of(container, record, seen).await;
            }
            None | Some(Record::Begun) => {}
        }
        // Docker has exit codes of its own for an init that could not be executed.
        if record.is_none() || seen.code == REFUSED {
            // The init removes the start file before the program runs, and no program can make it again.
            let never_ran = match &nonce {
                Some(nonce) => {
                    let laid_out = Found::File(nonce.start_half().as_bytes().to_vec());
                    self.fetch(container, START, RECORD_AT_MOST).await? == laid_out
                }
                None => is_missing && seen.code == REFUSED,
            };
            if never_ran {
                return Ok(Proof::NeverRan(never_ran_because(seen.code)));
            }
        }
        // The init was killed before it could write a record. Then only Docker knows of a kill for memory.
        let reported = Status::Exited {
            code: seen.code,
            out_of_memory: seen.out_of_memory,
            since: trainyard_core::Timestamp::UNIX_EPOCH,
            at: trainyard_core::Timestamp::UNIX_EPOCH,
        };
        let again = if seen.code == KILLED && !seen.out_of_memory {
            status::look_again(&self.client, container, reported).await?
        } else {
            reported
        };
        let seen = match again {
            Status::Exited {
                code,
                out_of_memory,
                ..
            } => Exit {
                code,
                out_of_memory,
            },
            Status::Created | Status::Running { .. } | Status::Unknown => *seen,
        };
        Ok(proof(record, &seen))
    }

    /// The proof that a record gives, with the name of a program that was not run.
    async fn proof_of(&self, container: &str, record: Record, seen: &Exit) -> Result<Proof, Error> {
        let is_missing = matches!(record, Record::Unrun(Unfit::Missing));
        match proof(Some(record), seen) {
            Proof::Unfit(why) => {
                let found = status::inspect(&self.client, container).await?;
                let config = found.and_then(|found| found.config).unwrap_or_default();
                let program = config.cmd.and_then(|cmd| cmd.into_iter().next());
                let is_searched = program.as_ref().is_some_and(|name| !name.contains('/'));
                let path = config.env.filter(|_| is_missing && is_searched);
                let path = path.and_then(|variables| {
                    let path = variables.iter().find_map(|one| one.strip_prefix("PATH="));
                    // Not a part of it: redaction does not know half a secret.
                    let path = path.filter(|path| path.len() <= PATH_SHOWN)?;
                    Some(format!("; it was searched for in PATH, `{path}`"))
                });
                let path = path.unwrap_or_default();
                let program = program.map_or_else(
                    || "its program".to_owned(),
                    |name| format!("`{}`", name.chars().take(NAME_SHOWN).collect::<String>()),
                );
                Ok(Proof::Unfit(format!("{program} was not run: {why}{path}")))
            }
            other => Ok(other),
        }
    }

    /// A file of the init in a container, of at most so many bytes.
    pub(super) async fn fetch(
        &self,
        container: &str,
        path: &str,
        at_most: usize,
    ) -> Result<Found, Error> {
        let found = init::file(&self.client, container, path, at_most).await;
        found.map_err(|call_error| {
            if call_error.text().contains("No such container") {
                gone(container)
            } else {
                call_error.into_error("send the record of an end")
            }
        })
    }
}

/// Why a program was not run, where neither the record nor the log says it.
fn never_ran_because(code: i32) -> String {
    let why = if code == REFUSED {
        // The init could not even write to its log: most often both are on a full disk.
        "and its container cannot say why; check whether the disk of the Docker engine is full"
    } else {
        "since its container could not be run: most often, the variables of its image are too long for the \
         kernel (128 KiB in one, usually 2 MiB in all); its log says more"
    };
    format!("its program was not run, {why}")
}

/// Why the kernel did not execute a program.
fn unfit_because(why: Unfit) -> String {
    let why = match why {
        Unfit::Missing => "the image has no such program",
        Unfit::WithoutInterpreter => {
            "the file is there, but its interpreter or its loader is not in the image"
        }
        Unfit::CarriageReturn => {
            "its first line ends with a carriage return, as on Windows (CRLF); save it with LF line ends"
        }
        Unfit::Permission => {
            "it is not executable; `git update-index --chmod=+x FILE` makes it executable in the repo"
        }
        Unfit::Format => {
            "exec format error: it was built for another architecture, or has no `#!` line"
        }
        Unfit::TooLong => {
            "its arguments and variables, with those of its image, are too long for the kernel (128 KiB in one, \
             usually 2 MiB in all)"
        }
        Unfit::Other(errno) => {
            return std::io::Error::from_raw_os_error(errno).to_string();
        }
    };
    why.to_owned()
}

/// The proof that a record, or its absence, gives together with Docker's report.
fn proof(record: Option<Record>, seen: &Exit) -> Proof {
    match record {
        Some(Record::Ended(End {
            code,
            asked,
            out_of_memory,
        })) => Proof::Ended {
            exit: Exit {
                code,
                out_of_memory: out_of_memory || seen.out_of_memory,
            },
            asked,
        },
        Some(Record::Never { errno }) => Proof::NeverRan(format!(
            "its program was not run, since its start could not be recorded in the container: {}",
            std::io::Error::from_raw_os_error(errno)
        )),
        Some(Record::Unrun(why)) => Proof::Unfit(unfit_because(why)),
        Some(Record::Begun) | None if seen.out_of_memory => Proof::by_engine(seen),
        // No process in the container can kill the init: the signal came from outside.
        Some(Record::Begun) if seen.code == KILLED => Proof::Killed,
        Some(Record::Begun) | None => Proof::Unproved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exit(code: i32) -> Exit {
        Exit {
            code,
            out_of_memory: false,
        }
    }

    fn ended(code: i32) -> Record {
        Record::Ended(End {
            code,
            asked: false,
            out_of_memory: false,
        })
    }

    #[test]
    fn an_exit_code_of_0_without_a_record_proves_nothing() {
        assert_eq!(proof(None, &exit(0)), Proof::Unproved);
        assert_eq!(proof(Some(Record::Begun), &exit(0)), Proof::Unproved);
    }

    #[test]
    fn a_record_counts_more_than_the_exit_code_of_a_refused_second_start() {
        let proved = proof(Some(ended(0)), &exit(REFUSED));
        let expected = Proof::Ended {
            exit: exit(0),
            asked: false,
        };
        assert_eq!(proved, expected);
    }

    #[test]
    fn what_was_killed_with_its_init_was_killed_from_outside() {
        assert_eq!(proof(Some(Record::Begun), &exit(KILLED)), Proof::Killed);
        let for_memory = Exit {
            code: KILLED,
            out_of_memory: true,
        };
        let proved = proof(Some(Record::Begun), &for_memory);
        assert_eq!(proved, Proof::by_engine(&for_memory));
    }

    #[test]
    fn a_program_that_could_not_be_latched_did_not_run() {
        let enospc = 28;
        let Proof::NeverRan(why) = proof(Some(Record::Never { errno: enospc }), &exit(REFUSED))
        else {
            panic!("it did run");
        };
        assert!(why.contains("No space left on device"), "{why}");
    }
}
