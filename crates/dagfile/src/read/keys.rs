//! The keys of each map in a DAG file. A test compares them with the JSON Schema.

pub(crate) const DAG: &[&str] = &[
    "name",
    "description",
    "triggers",
    "params",
    "concurrency",
    "timeout",
    "env",
    "defaults",
    "stages",
    "notify",
];
pub(crate) const TRIGGERS: &[&str] =
    &["schedule", "push", "pull_request", "tag", "after", "manual"];
pub(crate) const SCHEDULE: &[&str] = &["cron", "timezone", "missed", "params"];
pub(crate) const PUSH: &[&str] = &["branches", "paths"];
pub(crate) const PARAM: &[&str] = &[
    "type",
    "default",
    "minimum",
    "maximum",
    "choices",
    "description",
];
pub(crate) const CONCURRENCY: &[&str] = &["limit", "overlap", "group"];
pub(crate) const DEFAULTS: &[&str] = &[
    "image",
    "pull",
    "build",
    "shell",
    "checkout",
    "env",
    "secrets",
    "retry",
    "timeout",
    "resources",
];
pub(crate) const STAGE: &[&str] = &[
    "needs",
    "run_on",
    "if",
    "image",
    "pull",
    "build",
    "run",
    "shell",
    "command",
    "checkout",
    "env",
    "secrets",
    "inputs",
    "outputs",
    "metrics",
    "gate",
    "retry",
    "timeout",
    "resources",
    "pools",
    "matrix",
    "cache",
    "approval",
    "service",
];
pub(crate) const CHECKOUT: &[&str] = &["lfs", "submodules"];
pub(crate) const BUILD: &[&str] = &["context", "dockerfile", "args", "target"];
pub(crate) const INPUT: &[&str] = &["from", "best_by"];
pub(crate) const OUTPUT: &[&str] = &["path", "keep"];
pub(crate) const GATE: &[&str] = &["metric", "min", "max", "against", "max_drop"];
pub(crate) const RETRY: &[&str] = &["attempts", "on", "lost", "backoff", "factor", "max"];
pub(crate) const RESOURCES: &[&str] = &["cpus", "memory", "shm", "pids", "gpus"];
pub(crate) const PULL_REQUEST: &[&str] = &["branches", "paths"];
pub(crate) const TAG: &[&str] = &["names"];
pub(crate) const CACHE: &[&str] = &["files"];
pub(crate) const APPROVAL: &[&str] = &["timeout"];
pub(crate) const SERVICE: &[&str] = &["name", "port", "health", "drain", "keep"];
pub(crate) const HEALTH: &[&str] = &["http", "interval", "within"];
pub(crate) const NOTIFY: &[&str] = &["on", "webhook"];

/// The maps by the names of their types in the schema. The keys of the file itself are [`DAG`].
#[cfg(test)]
pub(crate) const MAPS: [(&str, &[&str]); 22] = [
    ("Dag", DAG),
    ("Triggers", TRIGGERS),
    ("Schedule", SCHEDULE),
    ("Push", PUSH),
    ("Param", PARAM),
    ("Concurrency", CONCURRENCY),
    ("Defaults", DEFAULTS),
    ("Stage", STAGE),
    ("Checkout", CHECKOUT),
    ("Build", BUILD),
    ("Input", INPUT),
    ("Output", OUTPUT),
    ("Gate", GATE),
    ("Retry", RETRY),
    ("Resources", RESOURCES),
    ("PullRequest", PULL_REQUEST),
    ("Tag", TAG),
    ("Cache", CACHE),
    ("Approval", APPROVAL),
    ("Service", SERVICE),
    ("Health", HEALTH),
    ("Notify", NOTIFY),
];
