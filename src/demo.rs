//! The newcomer's minute: see [`run`].

use anyhow::bail;

/// Shows the whole program at work in one process.
///
/// # Errors
/// When a part of it cannot be started.
pub async fn run(keep: bool) -> anyhow::Result<()> {
    let _ = keep;
    bail!("there is no demo in this build: begin with `laigu-router serve --config routes.yaml`")
}
