//! `sandbox`: the stand-in for the vendors' APIs, by itself.

use super::{Status, output::print};
use crate::{
    config::{settings::Rate, units},
    domain::{Chain, Secret},
    sandbox::{
        Options, Sandbox,
        push::{Mix, Push, Pusher},
        sender::Sender,
    },
    vendors::http::Error,
};
use anyhow::Context;
use clap::Args;
use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;

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
    /// How many KeFu sessions there were
    #[arg(long, default_value_t = 230)]
    sessions: usize,
    /// Laigu's quota, such as `5/s`: calls beyond it are refused with 10014 [default: none]
    #[arg(long, value_parser = rate)]
    rate: Option<Rate>,
    /// Pushes to this webhook as Laigu does: about everyone there is, then about changes that keep happening. The secret
    /// that signs them comes from --secret-file or LAIGU_ROUTER_SIGN_SECRET
    #[arg(long, value_name = "URL")]
    push_to: Option<Url>,
    /// The secret in this file
    #[arg(long, value_name = "FILE", requires = "push_to")]
    secret_file: Option<PathBuf>,
    /// Between two pushes
    #[arg(long, default_value = "1s", value_parser = duration)]
    every: Duration,
    /// Of a hundred pushes, so many never come: what `reconcile` is for
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    drop: u32,
    /// Of a hundred pushes, so many come again
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    resend: u32,
    /// Of a hundred pushes, so many come out of their turn
    #[arg(long, default_value_t = 0, value_name = "PERCENT")]
    reorder: u32,
}

fn rate(text: &str) -> Result<Rate, String> {
    units::rate(text).ok_or_else(|| format!("use {}", units::RATE_FORM))
}

/// Where a secret is looked for when no file is named.
const SECRET_VARIABLE: &str = "LAIGU_ROUTER_SIGN_SECRET";

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| format!("use {}", units::DURATION_FORM))
}

pub(super) async fn run(args: &SandboxArgs) -> anyhow::Result<Status> {
    let mut options = Options { listen: args.listen, latency: args.latency, rate: args.rate, ..Options::default() };
    options.plan.sessions = args.sessions;
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
    let sender = args.push_to.as_ref().map(|hook| sender(args, hook)).transpose()?;
    let running = async {
        match sender {
            Some(sender) => sender.run(&sandbox, pushed).await,
            None => sandbox.run().await,
        }
    };
    tokio::select! {
        () = running => {}
        ended = tokio::signal::ctrl_c() => ended?,
    }
    Ok(Status::Done)
}

/// Who pushes, and what goes wrong.
fn sender(args: &SandboxArgs, hook: &Url) -> anyhow::Result<Sender> {
    let secret = match &args.secret_file {
        Some(file) => {
            fs::read_to_string(file).with_context(|| format!("--secret-file: cannot read `{}`", file.display()))?
        }
        None => std::env::var(SECRET_VARIABLE).unwrap_or_default(),
    };
    let secret = Secret::new(secret.trim_end_matches(['\r', '\n']).to_owned());
    anyhow::ensure!(!secret.is_empty(), "--push-to: no secret to sign with, say --secret-file or {SECRET_VARIABLE}");
    let mix = Mix { resent: args.resend, dropped: args.drop, reordered: args.reorder, ..Mix::default() };
    let pusher = Pusher::new(hook, "meiqia-signature").context("--push-to: this URL may not be called")?;
    Ok(Sender { pusher, secret, mix, every: args.every, seed: args.seed })
}

/// A line a push: what it was about, and how it was answered.
fn pushed(push: &Push, answer: Result<u16, Error>) {
    let push: serde_json::Value = serde_json::from_slice(&push.body).unwrap_or_default();
    let text = |member: &str| push.get(member).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let answer = answer.map_or_else(|error| Chain(&error).to_string(), |status| status.to_string());
    // Whoever closed the output does not read it any more.
    let _ = print(&format!("{} {} {answer}\n", text("event"), text("id")));
}
