//! Repos.

use owo_colors::OwoColorize;
use serde_json::Value;
use trainyard_api::{Delivery, Fault, History, Repo, RepoDetail, RepoSaved};
use trainyard_core::measure::{counted, in_units};
use trainyard_core::text::short_commit;
use trainyard_present::zone::Zone;

use crate::view::dag;
use crate::view::detail::Detail;
use crate::view::plain;
use crate::view::screen::Screen;
use crate::view::table::{Rows, bad, cell, moment};

/// How many further branches with the same fault are listed; the others are counted.
const BRANCHES_SHOWN: usize = 3;

pub(crate) fn list(repos: &[Repo], screen: Screen) -> String {
    let heads = ["REPO", "BRANCH", "DAGS", "FAULTS", "SYNCED", "URL"];
    let mut rows = Rows::new(&heads, screen)
        .right(2)
        .right(3)
        .moments(4)
        .names(&[5, 4, 1, 0])
        .droppable(&[2])
        .whole();
    for repo in repos {
        rows.add(vec![
            cell(&repo.name),
            cell(repo.branch.as_deref().unwrap_or("-")),
            cell(repo.dags.to_string()),
            match repo.faults {
                0 => cell("0"),
                faults => bad(faults.to_string()),
            },
            match &repo.last_error {
                Some(problem) => bad(format!("failed: {problem}")),
                None => moment(repo.last_sync_at, screen),
            },
            cell(&repo.url),
        ]);
    }
    rows.text("no repos; `trainyard repo add NAME URL` adds one")
}

/// One repo in full.
pub(crate) fn show(repo: &RepoDetail, screen: Screen) -> String {
    let mut text = detail(&repo.repo, Some(&repo.webhook_url), screen.zone);
    if !repo.branches.is_empty() {
        let mut rows = Rows::new(&["BRANCH", "COMMIT", "MOVED"], screen)
            .moments(2)
            .names(&[0]);
        for branch in &repo.branches {
            rows.add(vec![
                cell(&branch.name),
                cell(short_commit(&branch.commit)),
                moment(branch.moved_at, screen),
            ]);
        }
        text.push_str(&format!("\n{}", rows.text("")));
    }
    if !repo.dag_list.is_empty() {
        text.push_str(&format!("\n{}", dag::list(&repo.dag_list, screen)));
    }
    text.push_str(&faults(&repo.fault_list));
    let more = u64::from(repo.repo.faults).saturating_sub(repo.fault_list.len() as u64);
    if more > 0 && !repo.fault_list.is_empty() {
        text.push_str(&format!(
            "\nand {} with faults\n",
            counted(more, "more file")
        ));
    }
    text
}

/// A repo that was just synced.
pub(crate) fn synced(repo: &Repo, zone: Zone) -> String {
    detail(repo, None, zone)
}

/// A repo that was just added or changed; `verb` says which.
pub(crate) fn saved(saved: &RepoSaved, verb: &str) -> String {
    let mut detail = Detail::default();
    detail.line("url", &saved.repo.url);
    detail.line("webhook", &saved.webhook_url);
    detail.line_if("webhook secret", saved.webhook_secret.as_deref());
    let mut text = detail.text(&format!("{verb} {}", plain(&saved.repo.name).bold()));
    if saved.webhook_secret.is_some() {
        text.push_str("The webhook secret is not shown again. Without a webhook, the daemon finds pushes by itself.\n");
    }
    for note in &saved.notes {
        text.push_str(&format!("{}\n", plain(note)));
    }
    text
}

/// The result of a sync.
pub(crate) fn found(repo: &Repo) -> String {
    let branch = repo.branch.as_deref().unwrap_or("the default branch");
    let mut text = format!("found {} on {}", counted(repo.dags, "DAG"), plain(branch));
    if repo.faults > 0 {
        let files = counted(repo.faults, "file");
        let name = plain(&repo.name);
        text.push_str(&format!(
            "; {files} with faults: `trainyard repo show {name}` shows them"
        ));
    }
    if let Some(problem) = &repo.last_error {
        text.push_str(&format!("; not all could be recorded: {}", plain(problem)));
    }
    text
}

/// The history that is removed along with a repo or a DAG.
pub(crate) fn history(history: &History) -> String {
    let some = |number: u64, what: &str, bytes: Option<u64>| {
        let bytes = bytes.map(|bytes| format!(" ({})", in_units(bytes)));
        (number > 0).then(|| format!("{}{}", counted(number, what), bytes.unwrap_or_default()))
    };
    let parts: Vec<String> = [
        some(history.dags, "DAG", None),
        some(history.runs, "run", None).map(|runs| match history.unfinished_runs {
            0 => runs,
            unfinished => format!("{runs} ({unfinished} unfinished)"),
        }),
        (history.log_bytes > 0).then(|| format!("logs ({})", in_units(history.log_bytes))),
        some(history.artifacts, "artifact", Some(history.artifact_bytes)),
        some(history.secrets, "secret", None),
    ]
    .into_iter()
    .flatten()
    .collect();
    match parts.is_empty() {
        true => "no DAGs, runs or secrets".to_owned(),
        false => parts.join(", "),
    }
}

pub(crate) fn deliveries(deliveries: &[Delivery], screen: Screen) -> String {
    let heads = [
        "RECEIVED", "EVENT", "BRANCH", "COMMIT", "BY", "ID", "RESULT",
    ];
    let mut rows = Rows::new(&heads, screen)
        .moments(0)
        .names(&[2])
        .droppable(&[5, 4, 3]);
    for delivery in deliveries {
        rows.add(vec![
            moment(delivery.received_at, screen),
            cell(&delivery.event),
            cell(delivery.branch.as_deref().unwrap_or("-")),
            cell(delivery.commit.as_deref().map_or("-", short_commit)),
            cell(delivery.actor.as_deref().unwrap_or("-")),
            cell(&delivery.id),
            cell(delivery.result.as_deref().unwrap_or("waits for a sync")),
        ]);
    }
    rows.text(
        "no deliveries; those with a wrong signature or an unreadable body are rejected, and only the daemon's log has them",
    )
}

/// DAG files with faults, in the style of a compiler.
pub(crate) fn faults(faults: &[Fault]) -> String {
    let mut text = String::new();
    let is_same =
        |one: &Fault, other: &Fault| one.path == other.path && one.diagnostics == other.diagnostics;
    for (at, fault) in faults.iter().enumerate() {
        if faults[..at].iter().any(|before| is_same(before, fault)) {
            continue;
        }
        let same = faults[at..].iter().filter(|other| is_same(fault, other));
        let mut places = same.flat_map(|fault| {
            let branches = match fault.branches.as_slice() {
                [] => std::slice::from_ref(&fault.branch),
                branches => branches,
            };
            let commit = short_commit(&fault.commit);
            branches
                .iter()
                .map(move |branch| format!("{} at {commit}", plain(branch)))
        });
        let first = places.next().unwrap_or_default();
        let others: Vec<String> = places.collect();
        let shown = others.iter().take(BRANCHES_SHOWN).cloned();
        let shown = shown.collect::<Vec<_>>().join(", ");
        let also = match others.len() {
            0 => String::new(),
            1..=BRANCHES_SHOWN => format!("; also on {shown}"),
            more => format!("; also on {shown} and {} more", more - BRANCHES_SHOWN),
        };
        text.push_str(&format!(
            "\n{} on {first}{also}\n",
            plain(&fault.path).bold()
        ));
        for diagnostic in fault.diagnostics.as_array().into_iter().flatten() {
            let number = |key: &str| diagnostic.get(key).and_then(Value::as_u64).unwrap_or(1);
            let word = |key: &str| diagnostic.get(key).and_then(Value::as_str);
            text.push_str(&format!(
                "  {}:{}:{}: {}\n",
                plain(&fault.path),
                number("line"),
                number("column"),
                plain(word("message").unwrap_or("it has a fault")).red()
            ));
            if let Some(help) = word("help") {
                text.push_str(&format!("    help: {}\n", plain(help)));
            }
        }
    }
    text
}

fn detail(repo: &Repo, webhook_url: Option<&str>, zone: Zone) -> String {
    let mut detail = Detail::default();
    detail.line("url", &repo.url);
    detail.line(
        "branch",
        repo.branch.as_deref().unwrap_or("the remote's default"),
    );
    detail.line_if("webhook", webhook_url.filter(|_| repo.takes_webhooks));
    detail.line(
        "polled",
        format!("every {}", seconds(repo.poll_every_seconds)),
    );
    if repo.has_credentials {
        detail.line("credentials", "set");
    }
    let synced = repo.last_sync_at.map(|at| zone.moment_in_full(at));
    detail.line("synced", synced.as_deref().unwrap_or("not yet"));
    let failing = repo
        .failing_since
        .map(|at| format!("since {}", zone.moment_in_full(at)));
    detail.line_if("failing", failing.as_deref());
    detail.line_if("sync failed", repo.last_error.as_deref());
    let faults = counted(repo.faults, "file");
    let faults = (repo.faults > 0).then(|| format!(", {faults} with faults"));
    detail.line(
        "DAGs",
        format!("{}{}", repo.dags, faults.unwrap_or_default()),
    );
    detail.text(&plain(&repo.name).bold().to_string())
}

fn seconds(seconds: u64) -> String {
    trainyard_present::quantity::duration(std::time::Duration::from_secs(seconds))
}
