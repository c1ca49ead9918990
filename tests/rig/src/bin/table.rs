//! `table FOLDER`: the table of the fault programme, from what its trials left in a folder; below it the
//! builds that were tried, and how to try again what was red.
//!
//! Ends with 1 when there was a violation or nothing is in the folder, with 2 without a folder.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use trainyard_rig::summary::{HEAD, Summary};

fn main() -> std::io::Result<ExitCode> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        writeln!(std::io::stderr(), "usage: table FOLDER")?;
        return Ok(ExitCode::from(2));
    };
    let rows = Summary::all(&folder);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{HEAD}")?;
    for row in &rows {
        writeln!(out, "{row}")?;
    }
    writeln!(out, "\n{}", Summary::builds(&rows))?;
    let violations: usize = rows.iter().map(|row| row.violations).sum();
    if violations > 0 {
        writeln!(
            out,
            "\n{violations} violations; what each left is in {}",
            folder.display()
        )?;
        for again in rows.iter().flat_map(|row| &row.red) {
            writeln!(out, "{again}")?;
        }
    }
    let good = violations == 0 && !rows.is_empty();
    Ok(ExitCode::from(u8::from(!good)))
}
