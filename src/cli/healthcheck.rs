//! `healthcheck`: for a container that has no curl.

use super::{Global, Status, client::Client};
use clap::Args;

/// The arguments of `healthcheck`.
#[derive(Debug, Clone, Args)]
pub(super) struct HealthcheckArgs {
    /// Ask whether the process lives, not whether it takes pushes
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(global: &Global, args: &HealthcheckArgs) -> anyhow::Result<Status> {
    let path = if args.live { "livez" } else { "readyz" };
    let client = Client::new(global)?;
    // A probe knows two answers: whoever does not answer is not well.
    match client.status_of(path).await {
        Ok(200) => Ok(Status::Done),
        Ok(status) => anyhow::bail!("`/{path}` answers {status}"),
        Err(error) => anyhow::bail!("{error:#}"),
    }
}
