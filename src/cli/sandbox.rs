//! `sandbox`: the stand-in for the vendors' APIs, by itself.

use super::{Status, output::print};
use crate::{
    config::units,
    sandbox::{Options, Sandbox},
};
use anyhow::Context;
use clap::Args;
use std::{net::SocketAddr, time::Duration};

/// The arguments of `sandbox`.
#[derive(Debug, Clone, Args)]
pub(super) struct SandboxArgs {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The same number makes the same people
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clients there are
    #[arg(long, default_value_t = 300)]
    clients: usize,
    /// How many conversations there were
    #[arg(long, default_value_t = 300)]
    conversations: usize,
    /// Waits this long before every answer, such as `200ms`
    #[arg(long, default_value = "0ms", value_parser = duration)]
    latency: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| format!("use {}", units::DURATION_FORM))
}

pub(super) async fn run(args: &SandboxArgs) -> anyhow::Result<Status> {
    let mut options = Options { listen: args.listen, latency: args.latency, ..Options::default() };
    options.plan.seed = args.seed;
    options.plan.clients = args.clients;
    options.plan.conversations = args.conversations;
    let credentials = [
        ("laigu access_token", options.access_token.clone()),
        ("laigu app_id", options.app_id.clone()),
        ("laigu sign", options.sign.clone()),
        ("laigu enterprise_id", options.enterprise_id.to_string()),
        ("easemob client_id", options.client_id.clone()),
        ("easemob secret_id", options.secret_id.clone()),
        ("easemob tenant_id", options.tenant_id.clone()),
    ];
    let sandbox = Sandbox::start(options).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let mut text = format!("answers as Laigu's and Easemob's APIs at {}\n", sandbox.url());
    credentials.iter().for_each(|(what, value)| text += &format!("  {what}: {value}\n"));
    print(&text)?;
    tokio::select! {
        () = sandbox.run() => {}
        ended = tokio::signal::ctrl_c() => ended?,
    }
    Ok(Status::Done)
}
