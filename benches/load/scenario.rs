//! What is measured: the floor, and the real program with one routes file after another.

use crate::{
    client::{self, Load, Pushed},
    options::Options,
    push::{ENTERPRISE, SECRET},
    server::{Lag, Server, free_port, used},
};
use anyhow::{Context, bail};
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// The argument that makes this very program the floor's server.
pub const FLOOR_MODE: &str = "serve-floor";
/// A backlog older than this at the end of a run means that the program did not keep up.
const LAG_MAX_SECONDS: f64 = 1.0;
const CATCH_UP_MAX: Duration = Duration::from_secs(120);

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Verify, parse, 200.
    Floor,
    /// Accept and decide; no route matches.
    Accept,
    /// Everything to one file.
    File,
    /// One condition on the payload, to one file.
    Cel,
    /// Everything to RabbitMQ.
    RabbitMq,
    /// Everything to Kafka.
    Kafka,
}

impl Scenario {
    /// Reads a name.
    pub fn parse(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "floor" => Self::Floor,
            "accept" => Self::Accept,
            "file" => Self::File,
            "cel" => Self::Cel,
            "rabbitmq" => Self::RabbitMq,
            "kafka" => Self::Kafka,
            _ => bail!("`{name}` is no case: floor, accept, file, cel, rabbitmq, kafka"),
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Floor => "the floor: verify, parse, 200",
            Self::Accept => "accept, synced; no route matches",
            Self::File => "accept, router, one file lane",
            Self::Cel => "accept, router with one CEL route, file lane",
            Self::RabbitMq => "accept, router, RabbitMQ lane",
            Self::Kafka => "accept, router, Kafka lane",
        }
    }

    /// The destination and the route of its routes file.
    fn routes(self) -> anyhow::Result<(String, &'static str)> {
        let file = "archive:\n    type: file\n    path: ./out".to_owned();
        Ok(match self {
            Self::Floor => bail!("the floor has no routes"),
            Self::Accept => (file, "name: never\n    when: event.type == \"never\"\n    to: [archive]"),
            Self::File => (file, "name: everything\n    to: [archive]"),
            Self::Cel => (
                file,
                "name: leads\n    when: event.type == \"cus.upsert\" && (has(body.tel) || has(body.weixin))\n    \
                 to: [archive]",
            ),
            Self::RabbitMq => {
                std::env::var("AMQP_URL").context("AMQP_URL is not set")?;
                let exchange = "{ name: laigu-load, type: fanout, durable: true, declare: true }";
                // Nobody reads here: unroutable is as good as delivered, and a queue would fill the disk.
                let text = format!(
                    "broker:\n    type: rabbitmq\n    url: ${{AMQP_URL}}\n    mandatory: false\n    exchange: {exchange}"
                );
                (text, "name: everything\n    to: [broker]")
            }
            Self::Kafka => {
                std::env::var("KAFKA_BROKERS").context("KAFKA_BROKERS is not set")?;
                let text =
                    "broker:\n    type: kafka\n    brokers: ${KAFKA_BROKERS}\n    topic: laigu-load\n    window: 8192";
                (text.to_owned(), "name: everything\n    to: [broker]")
            }
        })
    }
}

/// What one scenario did.
#[derive(Debug)]
pub struct Measured {
    /// Pushes answered 200.
    pub per_second: f64,
    pushed: Pushed,
    cpu: Duration,
    load_cpu: Duration,
    written: u64,
    memory_max: u64,
    lag: Option<Lag>,
    caught_up: Option<Duration>,
}

impl Measured {
    /// Whether it fell behind.
    pub fn is_lagging(&self) -> bool {
        self.lag.is_some_and(|lag| lag.seconds > LAG_MAX_SECONDS)
    }

    /// A row of the table.
    pub fn row(&self, scenario: Scenario, connections: usize, floor: Option<f64>) -> String {
        let ratio = floor.map_or("-".to_owned(), |floor| format!("{:.1} %", 100.0 * self.per_second / floor));
        let millis = |per_mille| self.pushed.latency(per_mille).as_secs_f64() * 1e3;
        let events = self.pushed.counted.max(1) as f64;
        format!(
            "| {} | {connections} | {:.0} | {ratio} | {:.2} | {:.2} | {:.1} | {:.1} | {:.0} | {} | {} | {} |",
            scenario.name(),
            self.per_second,
            millis(500),
            millis(990),
            self.cpu.as_secs_f64() * 1e6 / events,
            self.load_cpu.as_secs_f64() * 1e6 / events,
            self.written as f64 / events,
            self.memory_max >> 20,
            self.lag.map_or("-".to_owned(), |lag| format!("{:.2} ({:.0} events)", lag.seconds, lag.events)),
            self.caught_up.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64())),
        )
    }
}

/// Runs one scenario with so many connections.
pub fn measure(scenario: Scenario, connections: usize, options: &Options) -> anyhow::Result<Measured> {
    let folder = options.folder.join(format!("{scenario:?}-{connections}").to_lowercase());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let port = free_port()?;
    let log = folder.join("server.log");
    let server = if scenario == Scenario::Floor {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(FLOOR_MODE).arg(port.to_string());
        Server::start(command, port, None, &log)?
    } else {
        let admin = free_port()?;
        let routes = folder.join("routes.yaml");
        write_routes(&routes, scenario, port, admin)?;
        let mut command = Command::new(&options.program);
        command.arg("serve").arg("--config").arg(&routes).env("RUST_LOG", "warn");
        Server::start(command, port, Some(admin), &log)?
    };
    let load = Load {
        port,
        connections,
        keys: options.keys,
        body_bytes: options.body_bytes,
        threads: options.threads,
        rate: options.rate,
        warm_up: options.warm_up,
        duration: options.duration,
    };
    let (pushed, before) = client::run(&load, 0, || Ok::<_, anyhow::Error>((server.used()?, used("self")?)))?;
    let (before, load_before) = before?;
    let (after, load_after) = (server.used()?, used("self")?);
    let lag = server.lag()?;
    let caught_up = catch_up(&server, scenario, &pushed)?;
    let measured = Measured {
        per_second: pushed.counted as f64 / pushed.took.as_secs_f64(),
        pushed,
        cpu: after.cpu.saturating_sub(before.cpu),
        load_cpu: load_after.cpu.saturating_sub(load_before.cpu),
        written: after.written.saturating_sub(before.written),
        memory_max: server.memory_max()?,
        lag,
        caught_up,
    };
    drop(server);
    fs::remove_dir_all(&folder)?;
    Ok(measured)
}

/// Waits until everything accepted is delivered, and says how long that took. Fails if it never is, or if the
/// numbers do not agree: a lane that loses events is fast.
fn catch_up(server: &Server, scenario: Scenario, pushed: &Pushed) -> anyhow::Result<Option<Duration>> {
    if matches!(scenario, Scenario::Floor | Scenario::Accept) {
        return Ok(None);
    }
    let begin = Instant::now();
    loop {
        let delivered = server.counter("laigu_router_delivered_total")?;
        if delivered >= pushed.all as f64 {
            return Ok(Some(begin.elapsed()));
        }
        if begin.elapsed() > CATCH_UP_MAX {
            bail!("{} of {} accepted pushes were delivered after {CATCH_UP_MAX:?}", delivered, pushed.all);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn write_routes(path: &Path, scenario: Scenario, port: u16, admin: u16) -> anyhow::Result<()> {
    let (destination, route) = scenario.routes()?;
    let text = format!(
        "version: 1
server:
  listen: 127.0.0.1:{port}
  admin: 127.0.0.1:{admin}
  shutdown_delay: 0s
storage:
  path: ./data
  max_size: 40GiB
sources:
  laigu:
    type: laigu
    tenants:
      acme:
        enterprise_token: {ENTERPRISE}
        secret: {SECRET}
destinations:
  {destination}
routes:
  - {route}
unrouted: discard
"
    );
    Ok(fs::write(path, text)?)
}
