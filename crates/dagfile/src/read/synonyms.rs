//! Words that people bring from elsewhere. They are never taken for the right one, only told.

const SYNONYMS: [(&str, &str); 46] = [
    ("after", "needs"),
    ("artifacts", "outputs"),
    ("branch", "branches"),
    ("build_args", "args"),
    ("cmd", "command"),
    ("commands", "run"),
    ("condition", "if"),
    ("container", "image"),
    ("cpu", "cpus"),
    ("cron", "schedule"),
    ("crons", "schedule"),
    ("dependencies", "needs"),
    ("depends", "needs"),
    ("depends_on", "needs"),
    ("docker", "image"),
    ("entrypoint", "command"),
    ("environment", "env"),
    ("file", "dockerfile"),
    ("files", "paths"),
    ("gates", "gate"),
    ("input", "inputs"),
    ("jobs", "stages"),
    ("max_parallel", "limit"),
    ("mem", "memory"),
    ("memory_limit", "memory"),
    ("needed", "needs"),
    ("on", "triggers"),
    ("output", "outputs"),
    ("parameters", "params"),
    ("path", "paths"),
    ("ram", "memory"),
    ("requires", "needs"),
    ("retries", "retry"),
    ("schedule", "triggers"),
    ("schedules", "triggers"),
    ("script", "run"),
    ("secret", "secrets"),
    ("shm_size", "shm"),
    ("steps", "stages"),
    ("tasks", "stages"),
    ("timeout_minutes", "timeout"),
    ("timezones", "timezone"),
    ("trigger", "triggers"),
    ("tz", "timezone"),
    ("variables", "env"),
    ("when", "if"),
];

/// The word among `keys` that somebody who wrote `written` means.
pub(super) fn right_word(written: &str, keys: &[&'static str]) -> Option<&'static str> {
    let folded = written.to_ascii_lowercase().replace('-', "_");
    if let Some(key) = keys.iter().find(|key| **key == folded) {
        return Some(key);
    }
    // A word may stand for another one in two places: the first that fits here.
    let mut word = folded.as_str();
    for _ in 0..2 {
        let (_, right) = SYNONYMS.iter().find(|(synonym, _)| *synonym == word)?;
        if let Some(key) = keys.iter().find(|key| *key == right) {
            return Some(key);
        }
        word = right;
    }
    None
}
