//! A database that goes back in time, as daemons see a failover to a standby that lagged behind: the last commits are
//! lost, and no client gets an error for them.

use std::path::PathBuf;
use std::process::Command;

use trainyard_tests::daemon::signal;

use crate::cluster::PrivateCluster;
use crate::processes;

/// How a cluster was at one instant.
#[derive(Debug)]
pub struct Past {
    copy: PathBuf,
}

impl Past {
    /// Keeps how a cluster is now. All of its processes stand still meanwhile, so the copy is what a
    /// crash at this instant would leave.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn of(cluster: &PrivateCluster) -> Self {
        let copy = cluster.data().with_extension("past");
        let _ = std::fs::remove_dir_all(&copy);
        let postmaster = cluster.postmaster();
        // It first: then there are no new ones.
        signal(postmaster, "STOP");
        let others = processes::children_of(postmaster);
        for pid in &others {
            signal(*pid, "STOP");
        }
        let copied = Command::new("cp")
            .arg("-a")
            .args([&cluster.data(), &copy])
            .status();
        for pid in others.iter().chain([&postmaster]) {
            signal(*pid, "CONT");
        }
        assert!(copied.is_ok_and(|status| status.success()), "cp -a");
        Self { copy }
    }

    /// Kills the cluster and starts it as it was, under the same address.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restore(self, cluster: &PrivateCluster) {
        let postmaster = cluster.postmaster();
        let mut all = processes::children_of(postmaster);
        all.push(postmaster);
        processes::kill_all(&all);
        std::fs::remove_dir_all(cluster.data()).unwrap();
        std::fs::rename(&self.copy, cluster.data()).unwrap();
        // Of the processes that were copied, none runs.
        let _ = std::fs::remove_file(cluster.data().join("postmaster.pid"));
        cluster.up();
    }
}
