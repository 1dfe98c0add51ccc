//! What the program logs, where to, and what never.
//!
//! Lines go to the error output: text for a person, one JSON object a line for everybody else. `RUST_LOG` chooses what
//! is told. One thing it cannot choose: lapin writes returned messages with their bodies at `warn`, so nothing of it below
//! `error` is ever logged.

use std::io::IsTerminal;
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::filter_fn, layer::SubscriberExt};

/// What is logged where `RUST_LOG` says nothing.
pub const FILTER: &str = "info,lapin=off,rdkafka=warn";

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// For a collector.
    Json,
}

impl Format {
    /// Text on a terminal, JSON otherwise.
    #[must_use]
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Sets the process up to log. A second call changes nothing.
pub fn init(format: Format, default_filter: &str) {
    let from_env = EnvFilter::try_from_default_env();
    let filter = from_env.unwrap_or_else(|_| EnvFilter::new(default_filter));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    let subscriber = Registry::default().with(lines).with(filter).with(filter_fn(shows_no_payload));
    // Only tests start a second one, and they may share the first.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Whether a line may be written, whatever `RUST_LOG` says.
fn shows_no_payload(line: &Metadata<'_>) -> bool {
    let of_lapin = line.target() == "lapin" || line.target().starts_with("lapin::");
    !of_lapin || *line.level() == Level::ERROR
}
