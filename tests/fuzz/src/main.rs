//! Looks for inputs that break a bound: `trainyard-fuzz [--seconds N] [--seed N] [TARGET...]`.
//!
//! Ends with 1 where one was found; it is in `found/TARGET/` then, and `cargo test -p trainyard-fuzz` tries it again.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use trainyard_fuzz::{Counting, Target, keep, search, targets};

/// How many targets are searched at the same time.
const AT_A_TIME: usize = 2;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<ExitCode, String> {
    let (mut seconds, mut names) = (60, Vec::new());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let mut seed = now.as_secs();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().unwrap_or_default();
            value
                .parse::<u64>()
                .map_err(|_| format!("{argument} takes a number"))
        };
        match argument.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            _ => names.push(argument),
        }
    }
    let chosen = chosen(&names)?;
    // Panics are findings, and are reported as those.
    std::panic::set_hook(Box::new(|_| ()));
    let queue = Mutex::new(chosen.into_iter());
    let work = || -> Result<bool, String> {
        let mut all_held = true;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(target) = next else {
                return Ok(all_held);
            };
            all_held &= look(target, seed, Duration::from_secs(seconds))?;
        }
    };
    let held = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("the search itself panicked".to_owned()))
        });
        ended.collect::<Result<Vec<bool>, String>>()
    })?;
    Ok(ExitCode::from(u8::from(held.contains(&false))))
}

/// Searches one target; says whether its bounds held.
fn look(target: &Target, seed: u64, time: Duration) -> Result<bool, String> {
    let search = search(target, seed, time);
    println!("{}: {} inputs, seed {seed}", target.name, search.tried);
    let Some(found) = search.found else {
        return Ok(true);
    };
    let file = keep(target, seed, &found.input).map_err(|error| error.to_string())?;
    println!(
        "{}: {}; the input is in {}",
        target.name,
        found.broken,
        file.display()
    );
    Ok(false)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(targets::ALL.iter().collect());
    }
    let find = |name: &String| {
        let all: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
        targets::ALL
            .iter()
            .find(|target| target.name == name)
            .ok_or_else(|| {
                format!(
                    "unknown target `{name}`; the targets are {}",
                    all.join(", ")
                )
            })
    };
    names.iter().map(find).collect()
}
