//! What the core promises, each promise a test. Nothing here is known to the crate: only its public
//! surface is used.

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
