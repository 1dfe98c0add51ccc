//! The table of a run, with the ratios that only cases of the same run may have.

use crate::{case::Case, measure::Measured};

/// Prints rows as they come, and remembers what later ones are compared with.
#[derive(Debug, Default)]
pub struct Table {
    done: Vec<(Case, f64)>,
    /// What an event cost the program when it began with next to nothing in its store, in the load's own cost.
    cost: Option<f64>,
    lagging: bool,
}

const COLUMNS: [&str; 14] = [
    "what",
    "connections",
    "events/s",
    "of the floor",
    "of the possible",
    "p50 ms",
    "p99 ms",
    "CPU µs/event",
    "load's µs",
    "written B/event",
    "peak MiB",
    "lag s",
    "target",
    "remarks",
];

impl Table {
    /// Prints the head of a new table.
    pub fn begin() -> Self {
        println!("| {} |", COLUMNS.join(" | "));
        println!("|{}", " --- |".repeat(COLUMNS.len()));
        Self::default()
    }

    /// Whether a case fell behind.
    pub fn is_lagging(&self) -> bool {
        self.lagging
    }

    /// What a case reached in this run.
    pub fn rate(&self, case: Case) -> Option<f64> {
        self.done.iter().find(|(done, _)| *done == case).map(|(_, rate)| *rate)
    }

    /// What a case could reach at best: accepting and publishing cost what each costs alone.
    fn possible(&self, case: Case) -> Option<f64> {
        let both = |bare| Some(1.0 / (1.0 / self.rate(Case::Accept)? + 1.0 / self.rate(bare)?));
        match case {
            Case::File | Case::Cel => both(Case::BareFile),
            Case::RabbitMq => both(Case::BareRabbitMq),
            Case::Kafka => both(Case::BareKafka),
            Case::DrainRabbitMq => self.rate(Case::BareRabbitMq),
            Case::DrainKafka => self.rate(Case::BareKafka),
            Case::Floor | Case::Accept | Case::Half | Case::Backlog | Case::Draining => None,
            Case::BareFile | Case::BareRabbitMq | Case::BareKafka => None,
        }
    }

    /// How much more an event costs than on the first row of its case. Both are told in what the load spent on one, so
    /// that a machine that became slower in between does not count.
    fn dearer(&mut self, case: Case, measured: &Measured) -> Option<String> {
        let cost = measured.cpu?.as_secs_f64() / measured.load_cpu?.as_secs_f64();
        if case != Case::Backlog {
            return None;
        }
        let first = *self.cost.get_or_insert(cost);
        Some(format!("cost × {:.2}", cost / first))
    }

    /// Prints one row.
    pub fn row(&mut self, case: Case, connections: usize, measured: &Measured) {
        let none = || "-".to_owned();
        let ratio = |whole: Option<f64>| whole.map_or_else(none, |whole| percent(measured.per_second / whole));
        let millis = |per_mille: u64| {
            let latency = measured.pushed.as_ref().map(|pushed| pushed.latency(per_mille).as_secs_f64() * 1e3);
            latency.map_or_else(none, |millis| format!("{millis:.2}"))
        };
        let micros = |time: Option<std::time::Duration>| {
            time.map_or_else(none, |time| format!("{:.1}", time.as_secs_f64() * 1e6))
        };
        if case == Case::Floor {
            self.done.push((case, measured.per_second));
        }
        let floor = self.rate(Case::Floor).filter(|_| measured.pushed.is_some());
        let mut remarks = vec![measured.note.clone()];
        remarks.extend(self.dearer(case, measured));
        remarks.extend(measured.caught_up.map(|time| format!("rest delivered in {:.2} s", time.as_secs_f64())));
        if measured.is_lagging() {
            remarks.push("**fell behind**".to_owned());
            self.lagging = true;
        }
        remarks.retain(|remark| !remark.is_empty());
        let cells = [
            case.words().to_owned(),
            connections.to_string(),
            format!("{:.0}", measured.per_second),
            ratio(floor),
            ratio(self.possible(case)),
            millis(500),
            millis(990),
            micros(measured.cpu),
            micros(measured.load_cpu),
            measured.written.map_or_else(none, |bytes| format!("{bytes:.0}")),
            measured.memory_max.map_or_else(none, |bytes| (bytes >> 20).to_string()),
            measured.lag.filter(|_| case.delivers()).map_or_else(none, |lag| format!("{:.2}", lag.seconds)),
            case.target(connections).to_owned(),
            remarks.join("; "),
        ];
        println!("| {} |", cells.join(" | "));
        if case != Case::Floor {
            self.done.push((case, measured.per_second));
        }
    }
}

fn percent(ratio: f64) -> String {
    format!("{:.1} %", 100.0 * ratio)
}
