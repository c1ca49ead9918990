//! The promises of the core, each promise a test. The tests use only the public surface of the crate.

mod generate;
mod world;

mod admission;
mod cron_clock_changes;
mod cron_second_opinion;
mod dag_faults;
mod fleets;
mod plans;
mod reference;
mod resumes;
mod run_endings;
mod run_replay;
mod run_safety;
mod schedule_ticks;
mod transition_table;
mod why_lines;
