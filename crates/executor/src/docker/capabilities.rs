//! The capabilities of root in a stage's container. All others are dropped.
//!
//! The default ones are what `tar`, `chown`, `apt`, `su` and `gosu` need with the files and users of their own
//! container. None of them reaches out of it, and none lets a program trace the init or read its memory: that takes
//! SYS_PTRACE.

use std::fmt;

/// The default capabilities of stages.
const USUAL: [&str; 6] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "SETGID",
    "SETUID",
];

/// The names in capabilities(7).
const KNOWN: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// The capabilities of stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities(Vec<&'static str>);

impl Default for Capabilities {
    fn default() -> Self {
        Self(USUAL.to_vec())
    }
}

impl Capabilities {
    /// Parses capabilities by name, in any case, with `CAP_` before them or not; an empty list has none.
    ///
    /// # Errors
    /// Describes what is wrong with the list, in a sentence.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, String> {
        let mut all = Vec::new();
        for name in names {
            let upper = name.as_ref().trim().to_ascii_uppercase();
            let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
            if short.is_empty() {
                continue;
            }
            let known = KNOWN.iter().find(|known| **known == short);
            all.extend(Some(known.ok_or_else(|| {
                format!(
                    "invalid capability `{}`: capabilities(7) has their names",
                    name.as_ref()
                )
            })?));
        }
        all.sort_unstable();
        all.dedup();
        // Without KILL, the init could not end processes that a program left and that changed their user.
        if all.contains(&"SETUID") && !all.contains(&"KILL") {
            return Err("`SETUID` needs `KILL` as well".to_owned());
        }
        Ok(Self(all))
    }

    /// Their names, in order.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_people_write_them() {
        let read = |names: &[&str]| Capabilities::new(names).map(|all| all.to_string());
        assert_eq!(
            read(&["cap_sys_nice", "CHOWN", "chown"]),
            Ok("CHOWN,SYS_NICE".to_owned())
        );
        assert_eq!(read(&[]), Ok(String::new()));
        assert_eq!(read(&USUAL), Ok(Capabilities::default().to_string()));
        assert!(
            read(&["ALL"])
                .unwrap_err()
                .contains("invalid capability `ALL`")
        );
    }

    #[test]
    fn class_15_a_program_may_not_change_its_user_to_one_that_its_init_cannot_end() {
        assert!(Capabilities::new(["SETUID"]).is_err());
        assert!(Capabilities::new(["SETUID", "KILL"]).is_ok());
    }
}
