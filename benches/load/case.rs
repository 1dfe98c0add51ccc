//! What can be measured, and the routes file of each.

use crate::{
    bare::NAME,
    push::{ENTERPRISE, SECRET},
};
use anyhow::{Context, bail};
use std::{fs, path::Path};

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Verify, parse, 200.
    Floor,
    /// Accept and decide; no route matches.
    Accept,
    /// Everything to one file.
    File,
    /// One condition on the payload, to one file.
    Cel,
    /// The same at half the pace that it reached.
    Half,
    /// Lines written and synced, nothing else.
    BareFile,
    /// Everything to a broker that is away, on top of what is stored for it already.
    Backlog,
    /// lapin alone.
    BareRabbitMq,
    /// One condition on the payload, to RabbitMQ.
    RabbitMq,
    /// A stored backlog to RabbitMQ, nothing coming in.
    DrainRabbitMq,
    /// rdkafka alone.
    BareKafka,
    /// One condition on the payload, to Kafka.
    Kafka,
    /// A stored backlog to Kafka, nothing coming in.
    DrainKafka,
    /// A stored backlog to Kafka, and pushes at half the pace that was reached without one.
    Draining,
}

/// Every case with its name on the command line and its words in the table.
pub const CASES: [(Case, &str, &str); 14] = [
    (Case::Floor, "floor", "the floor: verify, parse, 200"),
    (Case::Accept, "accept", "accept, synced; no route matches"),
    (Case::File, "file", "accept, router, file lane"),
    (Case::Cel, "cel", "accept, router with one CEL route, file lane"),
    (Case::Half, "half", "the same at half that pace"),
    (Case::BareFile, "bare-file", "bare file: lines written and synced"),
    (Case::Backlog, "backlog", "accept, router, a broker that is away"),
    (Case::BareRabbitMq, "bare-rabbitmq", "bare lapin"),
    (Case::RabbitMq, "rabbitmq", "accept, router with one CEL route, RabbitMQ lane"),
    (Case::DrainRabbitMq, "drain-rabbitmq", "drain of a stored backlog to RabbitMQ"),
    (Case::BareKafka, "bare-kafka", "bare rdkafka"),
    (Case::Kafka, "kafka", "accept, router with one CEL route, Kafka lane"),
    (Case::DrainKafka, "drain-kafka", "drain of a stored backlog to Kafka"),
    (Case::Draining, "draining", "accept at half pace, while a stored backlog drains to Kafka"),
];

impl Case {
    /// Reads a name.
    pub fn parse(name: &str) -> anyhow::Result<Self> {
        let known = || CASES.map(|(_, name, _)| name).join(" ");
        let found = CASES.iter().find(|(_, known, _)| *known == name);
        found.map(|(case, ..)| *case).with_context(|| format!("`{name}` is no case, only: {}", known()))
    }

    /// Its words in the table.
    pub fn words(self) -> &'static str {
        CASES.iter().find(|(case, ..)| *case == self).map_or("", |(_, _, words)| words)
    }

    /// Whether there is a lane whose deliveries count.
    pub fn delivers(self) -> bool {
        match self {
            Self::Floor | Self::Accept | Self::Backlog | Self::Draining => false,
            Self::BareFile | Self::BareRabbitMq | Self::BareKafka => false,
            Self::File | Self::Cel | Self::Half => true,
            Self::RabbitMq | Self::DrainRabbitMq | Self::Kafka | Self::DrainKafka => true,
        }
    }

    /// What it is to reach, in words; design and reasons are in `docs/benchmarks.md`.
    pub fn target(self, connections: usize) -> &'static str {
        match self {
            Self::File if connections <= 64 => "≥ 50 % of the floor, CPU ≤ 22 µs",
            Self::File => "≥ 58 % of the floor, CPU ≤ 22 µs",
            Self::Cel | Self::RabbitMq | Self::Kafka => "≥ 75 % of the possible, lag ≤ 1 s",
            Self::Half => "p99 ≤ 10 ms",
            Self::Backlog => "cost ≤ × 1.15, peak ≤ 256 MiB, start ≤ 5 s",
            Self::DrainRabbitMq => "≥ 85 % of the possible",
            Self::DrainKafka => "≥ 60 % of the possible",
            Self::Draining => "p99 ≤ 20 ms",
            Self::Floor | Self::Accept | Self::BareFile | Self::BareRabbitMq | Self::BareKafka => "",
        }
    }

    /// The environment variable that says where its broker is.
    pub fn broker(self) -> Option<&'static str> {
        match self {
            Self::Floor | Self::Accept | Self::File | Self::Cel | Self::Half | Self::BareFile | Self::Backlog => None,
            Self::BareRabbitMq | Self::RabbitMq | Self::DrainRabbitMq => Some("AMQP_URL"),
            Self::BareKafka | Self::Kafka | Self::DrainKafka | Self::Draining => Some("KAFKA_BROKERS"),
        }
    }

    /// Where its broker is.
    pub fn broker_url(self) -> anyhow::Result<String> {
        let variable = self.broker().context("this case has no broker")?;
        std::env::var(variable).with_context(|| format!("{variable} is not set"))
    }

    /// What a broker's variable is set to so that there is none.
    pub fn dead_url(self) -> &'static str {
        if self.broker() == Some("AMQP_URL") { "amqp://127.0.0.1:1" } else { "127.0.0.1:1" }
    }

    fn destination(self) -> anyhow::Result<String> {
        Ok(match self {
            Self::Accept | Self::File | Self::Cel | Self::Half => "type: file\n    path: ./out".to_owned(),
            Self::Backlog => {
                "type: rabbitmq\n    url: amqp://127.0.0.1:1\n    exchange: { name: away, type: topic }".to_owned()
            }
            Self::RabbitMq | Self::DrainRabbitMq => format!(
                "type: rabbitmq\n    url: ${{AMQP_URL}}\n    \
                 exchange: {{ name: {NAME}, type: topic, durable: true, declare: true }}\n    window: 4096"
            ),
            Self::Kafka | Self::DrainKafka | Self::Draining => {
                format!("type: kafka\n    brokers: ${{KAFKA_BROKERS}}\n    topic: {NAME}\n    window: 8192")
            }
            Self::Floor | Self::BareFile | Self::BareRabbitMq | Self::BareKafka => bail!("{self:?} has no routes"),
        })
    }

    fn condition(self) -> &'static str {
        match self {
            Self::File | Self::Backlog => "",
            Self::Accept => "\n    when: event.type == \"never\"",
            _ => "\n    when: event.type == \"cus.upsert\" && (has(body.tel) || has(body.weixin))",
        }
    }

    /// Writes its routes file.
    pub fn write_routes(self, path: &Path, port: u16, admin: u16) -> anyhow::Result<()> {
        let (destination, condition) = (self.destination()?, self.condition());
        let target = match self.broker() {
            Some("AMQP_URL") => "{ destination: out, routing_key: \"laigu.{{ event.source }}\" }",
            _ => "{ destination: out }",
        };
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
  out:
    {destination}
routes:
  - name: everything{condition}
    to: [{target}]
unrouted: discard
"
        );
        Ok(fs::write(path, text)?)
    }
}
