//! `completions`: the verbs and options for a shell.

use super::{Cli, Status, output::print};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// The arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "laigu-router", &mut script);
    print(&String::from_utf8(script)?)?;
    Ok(Status::Done)
}
