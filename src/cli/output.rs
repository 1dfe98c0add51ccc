//! Where a command's answer goes, and how it fails.

use super::client::Unreachable;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Writes an answer, or a part of one.
///
/// # Errors
/// When the other end does not read any more; [`failed`] makes no fuss of it.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Tells what went wrong, and gives the exit status for it.
pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    // `| head` has seen enough.
    if error.chain().any(broken) {
        return ExitCode::SUCCESS;
    }
    let text = super::show::escaped_lines(&format!("error: {error:#}\n"));
    // Nobody reads: the exit status is all there is to say.
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(if error.is::<Unreachable>() { 3 } else { 1 })
}
