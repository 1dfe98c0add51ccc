//! What the command line of the load program says.

use crate::case::Case;
use anyhow::{Context, bail};
use std::{path::PathBuf, time::Duration};

/// For `--help`.
pub const HELP: &str = "cargo bench --bench load -- [options]
  --table                         everything that docs/benchmarks.md tells of, 60 s each, in Markdown;
                                  brokers' cases only where their variables are set
  --cases floor,accept,file       what to run, in this order: floor accept bare-file file cel half backlog
                                  bare-rabbitmq rabbitmq drain-rabbitmq (with AMQP_URL)
                                  bare-kafka kafka drain-kafka draining (with KAFKA_BROKERS)
  --connections 64,256            keep-alive connections, each with one push under way
  --seconds 20                    counted
  --warm-up 3                     before that, not counted
  --keys 10000                    different keys
  --body 1024                     bytes of a body
  --rate N                        pushes a second in all, instead of as fast as answers come
  --behind N                      hold pushes back while more than N are undelivered; without
                                  it, lanes to brokers are held to 0.6 s, as they would only
                                  fall behind otherwise
  --stored N[,N]                  store N pushes first, start again with them, then measure; each N a row
  --threads 1                     threads that push
  --folder target/load            where stores are; must be on a real disk
  --program PATH                  another laigu-router than the one built with this bench";

/// The options.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to run, in order.
    pub cases: Vec<Case>,
    /// With how many connections each.
    pub connections: Vec<usize>,
    /// Counted.
    pub duration: Duration,
    /// Not counted.
    pub warm_up: Duration,
    /// Different keys.
    pub keys: u64,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Threads that push.
    pub threads: usize,
    /// Pushes a second.
    pub rate: Option<f64>,
    /// Pushes stored before the counted run, which then starts with them.
    pub stored: Vec<u64>,
    /// Pushes that may be undelivered at a time.
    pub behind: Option<u64>,
    /// Everything, for `docs/benchmarks.md`.
    pub table: bool,
    /// Where stores are.
    pub folder: PathBuf,
    /// The program.
    pub program: PathBuf,
}

impl Options {
    /// Reads the arguments; `None` when help was asked for.
    pub fn parse(arguments: &[String]) -> anyhow::Result<Option<Self>> {
        let mut options = Self {
            cases: vec![Case::Floor, Case::Accept, Case::File],
            connections: vec![64, 256],
            duration: Duration::from_secs(20),
            warm_up: Duration::from_secs(3),
            keys: 10_000,
            body_bytes: 1024,
            threads: 1,
            rate: None,
            stored: vec![0],
            behind: None,
            table: false,
            folder: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/load"),
            program: PathBuf::from(env!("CARGO_BIN_EXE_laigu-router")),
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            if name == "--table" {
                options.table = true;
                options.duration = Duration::from_secs(60);
                continue;
            }
            let value = rest.next().with_context(|| format!("{name} needs a value"))?;
            let number = || value.parse::<f64>().with_context(|| format!("{name}: `{value}` is no number"));
            let count = || value.parse::<usize>().with_context(|| format!("{name}: `{value}` is no count"));
            match name.as_str() {
                "--cases" => options.cases = value.split(',').map(Case::parse).collect::<Result<_, _>>()?,
                "--connections" => {
                    options.connections = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--seconds" => options.duration = Duration::from_secs_f64(number()?),
                "--warm-up" => options.warm_up = Duration::from_secs_f64(number()?),
                "--keys" => options.keys = count()?.max(1) as u64,
                "--body" => options.body_bytes = count()?,
                "--threads" => options.threads = count()?.max(1),
                "--rate" => options.rate = Some(number()?),
                "--stored" => {
                    options.stored = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--behind" => options.behind = Some(count()? as u64),
                "--folder" => options.folder = PathBuf::from(value),
                "--program" => options.program = PathBuf::from(value),
                _ => bail!("`{name}` is no option\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}
