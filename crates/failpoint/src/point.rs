//! The list of points.

use std::fmt;

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// An effect that has a name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name: `store.append_log`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A daemon registers.
    RegisterDaemon = "store.register_daemon",
    /// Leases are renewed together.
    RenewLeases = "store.renew_leases",
    /// A daemon signs off.
    StopDaemon = "store.stop_daemon",
    /// A daemon publishes its health.
    TellCondition = "store.tell_condition",
    /// A daemon becomes or stays the leader.
    Lead = "store.lead",
    /// Other daemons are notified of a change.
    Notify = "store.notify",
    /// A run begins, with the claim of its first stages.
    StartRun = "store.start_run",
    /// A run is taken a step further.
    AdvanceRun = "store.advance_run",
    /// Runs that wait for a moment are planned again.
    LookAgain = "store.look_again",
    /// Runs wait, are skipped or are cancelled, as the DAG's overlap rule says.
    JudgeOverlap = "store.judge_overlap",
    /// Ticks of a DAG become runs.
    FireSchedule = "store.fire_schedule",
    /// Attempts get an owner.
    Claim = "store.claim",
    /// Attempts of a daemon that is gone get another owner.
    Adopt = "store.adopt",
    /// A claimed attempt that cannot be read is released.
    HoldBack = "store.hold_back",
    /// A container was created.
    NoteCreated = "store.note_created",
    /// A program was started.
    NoteStarted = "store.note_started",
    /// A container was removed.
    NoteRemoved = "store.note_removed",
    /// Attempts end, with everything that follows from it.
    Finish = "store.finish",
    /// A piece of a log.
    AppendLog = "store.append_log",
    /// The middle of a log beyond its limit.
    DropLogMiddle = "store.drop_log_middle",
    /// A webhook was received.
    RecordDelivery = "store.record_delivery",
    /// A webhook was worked off.
    FinishDelivery = "store.finish_delivery",
    /// A push is recorded, with the runs that it starts.
    RecordPush = "store.record_push",
    RecordBranchGone = "store.record_branch_gone",
    RecordDagVersion = "store.record_dag_version",
    /// A DAG is paused or resumed.
    PauseDag = "store.pause_dag",
    /// A DAG that is gone is removed with its runs.
    RemoveDag = "store.remove_dag",
    /// A repo is added.
    AddRepo = "store.add_repo",
    /// A repo's address, branch, credentials or secret changes.
    ChangeRepo = "store.change_repo",
    /// A repo is removed.
    RemoveRepo = "store.remove_repo",
    /// A repo is to be polled now.
    RequestSync = "store.request_sync",
    /// A repo was polled.
    FinishSync = "store.finish_sync",
    /// A failure is recorded that may lead to quarantine.
    RecordFailure = "store.record_failure",
    /// A quarantine is released.
    ReleaseFromQuarantine = "store.release_from_quarantine",
    /// A quarantined run is ended.
    EndQuarantined = "store.end_quarantined",
    /// Old runs are removed.
    PruneRuns = "store.prune_runs",
    /// Old logs are removed.
    PruneLogs = "store.prune_logs",
    /// Old deliveries are removed.
    PruneDeliveries = "store.prune_deliveries",
    /// DAG versions without a run are removed.
    PruneVersions = "store.prune_versions",
    /// DAGs without a file and without runs are removed.
    PruneDags = "store.prune_dags",
    /// Causes that were refused a run are removed.
    PruneCauses = "store.prune_causes",
    /// Branches that are gone are removed.
    PruneRefs = "store.prune_refs",
    /// Daemons that no row refers to are removed.
    PruneDaemons = "store.prune_daemons",
    /// Faults of DAG files that are not current are removed.
    PruneFaults = "store.prune_faults",
    /// Old entries of the audit log are removed.
    PruneAudit = "store.prune_audit",
    /// Content without an owner is forgotten.
    SweepBlobs = "store.sweep_blobs",
    /// Garbage is to be removed now.
    RequestGc = "store.request_gc",
    SetSecret = "store.set_secret",
    RemoveSecret = "store.remove_secret",
    /// A token is made.
    CreateToken = "store.create_token",
    /// A daemon adopts a token as its own.
    KeepToken = "store.keep_token",
    RevokeToken = "store.revoke_token",
    UseToken = "store.use_token",
    /// The secret key is checked against the database.
    CheckSecretKey = "store.check_secret_key",

    /// Docker's version.
    Version = "docker.version",
    /// Docker's facts.
    Info = "docker.info",
    /// The version of the protocol.
    Negotiate = "docker.negotiate",
    /// An image is inspected.
    InspectImage = "docker.inspect_image",
    PullImage = "docker.pull_image",
    /// An image is built.
    BuildImage = "docker.build_image",
    /// Built images are listed.
    ListImages = "docker.list_images",
    /// A built image is removed.
    RemoveImage = "docker.remove_image",
    /// The volume of the init is made.
    CreateVolume = "docker.create_volume",
    /// Volumes of inits are listed.
    ListVolumes = "docker.list_volumes",
    /// The volume of an init is removed.
    RemoveVolume = "docker.remove_volume",
    /// The container that fills the init's volume is made.
    CreateLoader = "docker.create_loader",
    /// The init is copied into its volume.
    FillVolume = "docker.fill_volume",
    /// The container that filled the volume is removed.
    RemoveLoader = "docker.remove_loader",
    /// An attempt's container is created.
    CreateContainer = "docker.create_container",
    /// An attempt's files are copied into its container.
    Upload = "docker.upload",
    /// An attempt's container is started.
    StartContainer = "docker.start_container",
    /// A container is inspected.
    InspectContainer = "docker.inspect_container",
    /// The changes in a container are listed, before its files are laid out again.
    ContainerChanges = "docker.container_changes",
    /// A wait for a container's end.
    WaitContainer = "docker.wait_container",
    /// A log is opened.
    Logs = "docker.logs",
    /// The record of an end is fetched.
    FetchRecord = "docker.fetch_record",
    /// An output is fetched.
    Collect = "docker.collect",
    /// A container is stopped.
    StopContainer = "docker.stop_container",
    /// A container is removed, whether it runs or not.
    RemoveContainer = "docker.remove_container",
    /// A container is removed unless it runs.
    RemoveIdle = "docker.remove_idle",
    ListContainers = "docker.list_containers",
    /// A repo's network is inspected.
    InspectNetwork = "docker.inspect_network",
    /// A repo's network is made.
    CreateNetwork = "docker.create_network",
    ListNetworks = "docker.list_networks",
    /// An unused network is removed.
    RemoveNetwork = "docker.remove_network",
    /// The database container of `trainyard dev` is created.
    CreateCompanion = "docker.create_companion",
    StartCompanion = "docker.start_companion",
    /// It is stopped.
    StopCompanion = "docker.stop_companion",
    /// Its log is read.
    CompanionLogs = "docker.companion_logs",
}

/// Before an effect or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Nothing has happened yet.
    Before,
    /// It has happened, and the caller does not know yet.
    After,
}

impl Side {
    pub const ALL: [Self; 2] = [Self::Before, Self::After];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_points_have_the_same_name() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
