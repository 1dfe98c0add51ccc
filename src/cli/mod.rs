//! The command line: one file a verb.
//!
//! `serve` is the program itself; `check`, `sign`, `explain FILE` and `api` need `routes.yaml` alone; the others ask a
//! running server over its admin API. `docs/cli.md` is written from the tree below: a test compares them.

pub mod api;
mod audit;
mod check;
mod client;
mod completions;
mod config_file;
mod dead_letters;
mod demo;
mod destinations;
mod events;
mod explain;
mod healthcheck;
mod output;
mod reconcile;
#[cfg(test)]
mod reference;
mod replay;
mod routes;
mod sandbox;
mod selection;
mod serve;
mod show;
mod sign;
mod trust;

use crate::{domain::Secret, telemetry};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, process::ExitCode};

/// What a command that did its work says with its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// 0.
    Done,
    /// 1: it worked, and the answer is no.
    No,
}

const EXIT_CODES: &str = "Exit status: 0 done; 1 the answer is no, or it failed; 2 the command line is wrong; \
     3 no server answers at --admin.";

/// Takes webhook pushes from Laigu and Easemob KeFu, keeps them durably, and fans them out
#[derive(Debug, Parser)]
#[command(name = "laigu-router", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The file that says everything
    #[arg(long, global = true, env = "LAIGU_ROUTER_CONFIG", default_value = "routes.yaml", value_name = "FILE")]
    config: PathBuf,
    /// The admin API of a running server [default: `server.admin` of the file]
    #[arg(long, global = true, env = "LAIGU_ROUTER_ADMIN", value_name = "URL")]
    admin: Option<url::Url>,
    /// Whom to trust behind an https address, PEM [default: `server.tls` of the file; with --admin whom the system trusts]
    #[arg(long, global = true, env = "LAIGU_ROUTER_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A file with the token for the admin API; without it and --token the variable LAIGU_ROUTER_TOKEN counts
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The token itself; every user of this machine can read it meanwhile
    #[arg(long, global = true, value_name = "TOKEN", value_parser = secret)]
    token: Option<Secret>,
    /// For scripts: JSON as the API gives it
    #[arg(long, global = true)]
    json: bool,
    /// How log lines are written [default: text on a terminal, else json]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For a person
    Text,
    /// One object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take pushes, keep them, send them on: the program itself
    Serve(serve::ServeArgs),
    /// See it work: a stand-in for the vendor, pushes, and what became of each
    Demo(demo::DemoArgs),
    /// Read the file and tell every mistake in it at once
    Check(check::CheckArgs),
    /// Why an event goes where it goes
    Explain(explain::ExplainArgs),
    /// Sign a body as the vendor would: prints the headers for curl
    Sign(sign::SignArgs),
    /// The events of a running server
    Events(events::EventsArgs),
    /// What could not be delivered
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Send dead letters or events once more
    Replay(Box<replay::ReplayArgs>),
    /// How the destinations are
    Destinations(destinations::DestinationsArgs),
    /// Who replayed, discarded, paused: the newest first
    Audit(audit::AuditArgs),
    /// The routes in force, with what they took
    Routes(routes::RoutesArgs),
    /// Fetch pushes that never came, of a stretch of history
    Reconcile(reconcile::ReconcileArgs),
    /// The vendors' APIs by hand
    Api(api::ApiArgs),
    /// A stand-in for the vendors' APIs, to try things against
    Sandbox(sandbox::SandboxArgs),
    /// Whether a running server takes pushes
    Healthcheck(healthcheck::HealthcheckArgs),
    /// A script that completes these verbs in a shell
    Completions(completions::CompletionsArgs),
}

/// The program: reads the command line, does what it says, gives the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let format = match global.log_format {
        None => telemetry::Format::of_stderr(),
        Some(LogFormat::Text) => telemetry::Format::Text,
        Some(LogFormat::Json) => telemetry::Format::Json,
    };
    let is_server = matches!(command, Command::Serve(_) | Command::Demo(_) | Command::Sandbox(_));
    telemetry::init(format, if is_server { telemetry::FILTER } else { "off" });
    match run(&global, command) {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::No) => ExitCode::from(1),
        Err(error) => output::failed(&error),
    }
}

fn run(global: &Global, command: Command) -> anyhow::Result<Status> {
    // Before anything speaks TLS; it fails only where it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(dispatch(global, command));
    // What still waits for the outside is not waited for.
    runtime.shutdown_background();
    result
}

async fn dispatch(global: &Global, command: Command) -> anyhow::Result<Status> {
    match command {
        Command::Serve(args) => serve::run(global, &args).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Check(args) => check::run(global, &args),
        Command::Explain(args) => explain::run(global, &args).await,
        Command::Sign(args) => sign::run(global, &args),
        Command::Events(args) => events::run(global, &args).await,
        Command::DeadLetters(args) => dead_letters::run(global, &args).await,
        Command::Replay(args) => replay::run(global, &args).await,
        Command::Destinations(args) => destinations::run(global, &args).await,
        Command::Audit(args) => audit::run(global, &args).await,
        Command::Routes(args) => routes::run(global, &args).await,
        Command::Reconcile(args) => reconcile::run(global, &args).await,
        Command::Api(args) => run_api(global, &args).await,
        Command::Sandbox(args) => sandbox::run(&args).await,
        Command::Healthcheck(args) => healthcheck::run(global, &args).await,
        Command::Completions(args) => completions::run(&args),
    }
}

async fn run_api(global: &Global, args: &api::ApiArgs) -> anyhow::Result<Status> {
    use std::io::{BufReader, IsTerminal};
    let settings = config_file::load(&global.config)?.settings;
    let (err_is_terminal, input_is_terminal) = (std::io::stderr().is_terminal(), std::io::stdin().is_terminal());
    let mut io = api::Io {
        out: &mut std::io::stdout(),
        err: &mut std::io::stderr(),
        input: &mut BufReader::new(std::io::stdin()),
        err_is_terminal,
        input_is_terminal,
    };
    api::run(args, &settings, &mut io).await?;
    Ok(Status::Done)
}
