//! The program: see [`laigu_router::cli`].

use anyhow::Context;
use laigu_router::{app, app::generation::Generation, config};
use std::{path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow::anyhow!("twice"))?;
    let mut path = PathBuf::from("routes.yaml");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            path = arguments.next().context("a path")?.into();
        }
    }
    let loaded = match config::load(&path, &|name| std::env::var(name).ok()) {
        Ok(loaded) => loaded,
        Err(diagnostics) => anyhow::bail!("{}", diagnostics.render(false)),
    };
    let generation = match Generation::compile(1, loaded) {
        Ok(generation) => generation,
        Err(diagnostics) => anyhow::bail!("{}", diagnostics.render(false)),
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let running = app::start(generation).await?;
        let stop = CancellationToken::new();
        let mut term = signal(SignalKind::terminate())?;
        let token = stop.clone();
        tokio::spawn(async move {
            term.recv().await;
            token.cancel();
        });
        running.until(stop).await
    })
}
