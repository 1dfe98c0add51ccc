//! `demo`: the newcomer's minute.

use super::Status;
use clap::Args;

/// The arguments of `demo`.
#[derive(Debug, Clone, Args)]
pub(super) struct DemoArgs {
    /// Keep the folder and go on serving, to look around
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(args: &DemoArgs) -> anyhow::Result<Status> {
    crate::demo::run(args.keep).await?;
    Ok(Status::Done)
}
