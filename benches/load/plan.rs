//! What is measured one after the other, and on what.

use crate::{case::Case, options::Options};
use std::{env, fs, thread};

/// How much is stored before the rows that tell what a full store costs.
const STORED: [u64; 2] = [10_000, 10_000_000];

/// One table: what its rows are compared with stands in it.
pub struct Part {
    /// Connections of every row.
    pub connections: usize,
    /// The rows.
    pub cases: Vec<Case>,
    /// What is stored before each; a row for each number.
    pub stored: Vec<u64>,
}

/// What the options ask for.
pub fn parts(options: &Options) -> Vec<Part> {
    if !options.table {
        let part = |&connections| Part { connections, cases: options.cases.clone(), stored: options.stored.clone() };
        return options.connections.iter().map(part).collect();
    }
    let bare = [Case::Floor, Case::Accept, Case::BareFile];
    let here = [Case::File, Case::Cel, Case::Half];
    let rabbitmq = [Case::BareRabbitMq, Case::RabbitMq, Case::DrainRabbitMq];
    let kafka = [Case::BareKafka, Case::Kafka, Case::DrainKafka, Case::Draining];
    let set = |variable| env::var_os(variable).is_some();
    let mut few = [bare, here].concat();
    few.extend(rabbitmq.into_iter().filter(|_| set("AMQP_URL")));
    few.extend(kafka.into_iter().filter(|_| set("KAFKA_BROKERS")));
    vec![
        Part { connections: 64, cases: few, stored: vec![0] },
        Part { connections: 256, cases: [bare, here].concat(), stored: vec![0] },
        Part { connections: 64, cases: vec![Case::Backlog], stored: STORED.to_vec() },
    ]
}

/// The machine, in words.
pub fn machine() -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&file("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or_default();
    let kernel = file("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    format!("{cores} × {}, {} GiB, Linux {kernel}", field(&file("/proc/cpuinfo"), "model name"), memory >> 20)
}
