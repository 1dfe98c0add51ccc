//! The command line: one file a verb.
//!
//! `serve` is the program itself; `check`, `sign`, `explain FILE` and `api` need `routes.yaml` alone, `demo`, `sandbox` and
//! `completions` nothing; the others ask a running server over its admin API. The second half of `docs/cli.md` is written
//! from the tree below: a test compares them.

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
use clap::{
    Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};

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
    let Cli { global, command } = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
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

/// Reads a command line. Of `replay` and `reconcile`, which do something themselves and have verbs below, nothing but
/// what is taken everywhere goes with one of those verbs.
fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut tree = Cli::command();
    let matches = tree.try_get_matches_from_mut(line)?;
    if let Some(words) = clash(&tree, &matches) {
        return Err(tree.error(ErrorKind::ArgumentConflict, words));
    }
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut tree))
}

/// What does not go together, if anything.
fn clash(tree: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let (verb, given) = matches.subcommand()?;
    let below = given.subcommand_name()?;
    let is_said = |arg: &&Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let arg = tree.find_subcommand(verb)?.get_arguments().filter(|arg| !arg.is_global_set()).find(is_said)?;
    Some(format!("`{arg}` is for `{verb}` itself, it does not go with `{verb} {below}`"))
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

#[cfg(test)]
mod tests {
    use super::{Cli, parse};

    fn read(line: &str) -> Result<Cli, clap::Error> {
        parse(format!("laigu-router {line}").split(' ').map(Into::into))
    }

    #[test]
    fn what_is_taken_everywhere_is_taken_before_and_behind_every_verb() {
        for rest in ["replay list", "replay show rep_1", "reconcile list", "reconcile cancel rcn_1", "events list"] {
            let words: Vec<&str> = rest.split(' ').collect();
            for place in 0..=words.len() {
                let mut words = words.clone();
                words.insert(place, "--json");
                words.insert(place, "http://h:1");
                words.insert(place, "--admin");
                let cli = read(&words.join(" ")).unwrap_or_else(|error| panic!("{words:?}: {error}"));
                assert!(cli.global.json && cli.global.admin.is_some(), "{words:?}");
                let (verb, below) = (format!("{:?}", cli.command), words.iter().find(|word| **word == "list"));
                assert_eq!(below.is_some(), verb.contains("List"), "{words:?}: {verb}");
            }
        }
        assert!(read("reconcile --json --source laigu --tenant acme --from 2024-09-01T00:00:00Z").is_ok());
        assert!(read("replay --json dl_1 dl_2").is_ok() && read("replay --of events --json evt_1").is_ok());
    }

    #[test]
    fn what_is_a_verbs_own_does_not_go_with_the_verbs_below() {
        for line in [
            "replay --cause expired list",
            "replay --json --all list",
            "replay --source laigu show rep_1",
            "reconcile --source laigu list",
            "reconcile --detach cancel rcn_1",
        ] {
            let error = read(line).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("does not go with"), "{line}: {error}");
        }
        for line in ["replay dl_1 list", "replay lists", "replay 7", "reconcile --source laigu", "reconcile lists"] {
            assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
