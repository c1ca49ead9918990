//! Processes by where they belong, for parts that start processes of their own.
//!
//! They are found by a path of the rig's own in their command line, or by a control group of the
//! rig's own, and signalled one by one by id: nothing here can reach a process that is not the rig's.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use trainyard_tests::wait::until_true;

/// How long a process may take to be gone after SIGKILL.
const GONE: Duration = Duration::from_secs(120);

/// Where the control groups of this machine are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The processes whose command lines hold `text`.
pub(crate) fn with_command_line(text: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| *pid != std::process::id())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                line.contains(text)
            })
        })
        .collect()
}

/// The processes of a control group by name, and of those below it, in whatever hierarchy.
pub(crate) fn in_cgroup(name: &str) -> Vec<u32> {
    let mut pids: Vec<u32> = cgroup_folders(name)
        .iter()
        .flat_map(|folder| {
            let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
            std::iter::once(folder.clone()).chain(below.map(|entry| entry.path()))
        })
        .filter_map(|folder| std::fs::read_to_string(folder.join("cgroup.procs")).ok())
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes a control group that holds nothing any more.
pub(crate) fn remove_cgroup(name: &str) {
    for folder in cgroup_folders(name) {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Files refuse, and are none of our business.
            let _ = std::fs::remove_dir(entry.path());
        }
        let _ = std::fs::remove_dir(folder);
    }
}

/// Sends SIGKILL to each and waits until all are gone.
///
/// # Panics
/// When one stays.
pub(crate) fn kill_all(pids: &[u32]) {
    for pid in pids {
        // A process that ended by itself meanwhile needs no signal.
        let _ = Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .stderr(std::process::Stdio::null())
            .status();
    }
    until_true("the end of killed processes", GONE, || {
        pids.iter().all(|pid| !is_alive(*pid))
    });
}

/// Whether it runs; what has ended and was not fetched by its parent does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(") ").next().unwrap_or_default();
        !state.starts_with(['Z', 'X'])
    })
}

/// The processes that another one started and that are still there.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
                let rest = stat.rsplit(") ").next().unwrap_or_default();
                rest.split(' ').nth(1) == Some(parent.to_string().as_str())
            })
        })
        .collect()
}

/// The memory of a process that is in RAM, in bytes; 0 where it is gone.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// How many files, sockets and pipes a process has open; 0 where it is gone.
pub(crate) fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Unmounts everything below a folder, the innermost first.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points
        .filter(|point| Path::new(point).starts_with(folder))
        .collect::<Vec<_>>()
        .iter()
        .rev()
    {
        let _ = Command::new("umount").args(["-l", point]).status();
    }
}

fn cgroup_folders(name: &str) -> Vec<std::path::PathBuf> {
    let root = Path::new(CGROUPS);
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
    std::iter::once(root.to_owned())
        .chain(hierarchies.map(|entry| entry.path()))
        .map(|hierarchy| hierarchy.join(name))
        .filter(|folder| folder.is_dir())
        .collect()
}
