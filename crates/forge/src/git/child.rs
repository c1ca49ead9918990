//! The child process: one request, one answer, the end.

use std::io::{self, BufRead, BufReader, Read};

use super::job::Request;

/// The longest request, in bytes.
const REQUEST_BYTES: u64 = 1 << 20;

/// Reads one request from standard input, carries it out, and writes the answer to standard output. Ends the process
/// as soon as standard input is closed: the caller is gone, or has cancelled the request.
///
/// # Errors
/// The request is not valid, or the answer cannot be written.
pub fn serve_one_request() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let mut line = Vec::new();
    input
        .by_ref()
        .take(REQUEST_BYTES)
        .read_until(b'\n', &mut line)?;
    let request: Request = serde_json::from_slice(&line)?;
    request.bounds.hold()?;
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || {
            let _ = io::copy(&mut input, &mut io::sink());
            end();
        })?;
    request.carry_out(io::BufWriter::new(io::stdout().lock()))
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "the answer is no longer wanted, and libgit2 cannot be interrupted"
)]
fn end() {
    std::process::exit(1);
}
