//! End-to-end scenarios: one file a promise. See the harness in `src/`.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

mod artifacts_reach_later_stages;
mod bad_input_is_answered_in_words;
mod cancel_beats_retry;
mod changes_are_audited;
mod class_13_costly_repo_is_quarantined;
mod cron_fires_once;
mod daemons_share_one_database;
mod disk_use_is_bounded;
mod examples_run;
mod exec_needs_no_daemon;
mod faults_are_logged;
mod file_faults_are_shown_and_others_run;
mod free_space_pauses_new_stages;
mod full_disk_loses_nothing;
mod gate_refuses_a_worse_model;
mod health_is_reported;
mod images_are_built_from_the_commit;
mod killed_daemon_loses_nothing;
mod logs_outlast_the_database;
mod paths_lead_nowhere;
mod poison_is_isolated;
mod postgres_restart_is_survived;
mod programs_do_not_decide_their_end;
mod proxies_pass_everything_on;
mod push_starts_the_run;
mod quick_start_works_as_written;
mod refused_values_stop_nothing_else;
mod remotes_are_read_first;
mod repos_are_changed_and_removed;
mod retry_reuses_results;
mod runs_take_parameters;
mod secrets_stay_secret;
mod webhooks_are_verified;
