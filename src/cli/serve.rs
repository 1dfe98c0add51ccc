//! `serve`: the program itself.

use super::{Global, Status, config_file};
use crate::app::{self, Running, generation::Generation};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub(super) struct ServeArgs {
    /// Write the addresses that were bound into this file, as JSON, once pushes are taken
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

pub(super) async fn run(global: &Global, args: &ServeArgs) -> anyhow::Result<Status> {
    let mut signals = Signals::listen()?;
    let loaded = config_file::load(&global.config)?;
    let generation = Generation::compile(1, loaded).map_err(|mistakes| config_file::mistakes(&mistakes))?;
    for warning in &generation.warnings {
        warn!(file = %global.config.display(), "{}", warning.message);
    }
    let running = app::start(generation).await?;
    if let Some(file) = &args.ready_file {
        tell_addresses(file, &running)?;
    }
    let stop = CancellationToken::new();
    let token = stop.clone();
    let watch = tokio::spawn(async move {
        signals.first().await;
        info!("asked to stop; asked again, it ends at once");
        token.cancel();
        signals.first().await;
        std::process::exit(1);
    });
    let result = running.until(stop).await;
    watch.abort();
    result?;
    Ok(Status::Done)
}

/// SIGTERM and SIGINT, listened to from the beginning: none is lost while the store is opened.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn first(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Writes where hooks and admin listen; whole or not at all, so that a reader never sees half of it.
fn tell_addresses(file: &Path, running: &Running) -> anyhow::Result<()> {
    let text = json!({"hooks": running.hooks.to_string(), "admin": running.admin.to_string()}).to_string();
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    std::fs::write(&unfinished, text + "\n")
        .and_then(|()| std::fs::rename(&unfinished, file))
        .with_context(|| format!("--ready-file: cannot write `{}`", file.display()))
}
