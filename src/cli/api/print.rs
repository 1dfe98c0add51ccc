//! How records are written: as a table, as JSON, or as they came; and the talk beside them, on the error output.

use super::{
    pace::{Pace, advice},
    table::{self, Column},
};
use crate::vendors::{
    self,
    action::Action,
    record::{Batch, Record},
    times::Moment,
};
use anyhow::{Context, bail};
use serde_json::{Map, Value};
use std::{
    io::{BufRead, Write},
    time::{Duration, Instant},
};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Where a command reads and writes.
pub struct Io<'a> {
    /// Records.
    pub out: &'a mut (dyn Write + Send),
    /// Progress and questions.
    pub err: &'a mut (dyn Write + Send),
    /// Passwords and answers.
    pub input: &'a mut (dyn BufRead + Send),
    /// Whether a person reads `err`.
    pub err_is_terminal: bool,
    /// Whether a person writes `input`.
    pub input_is_terminal: bool,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One object a line, integers beyond 2^53 as texts.
    Json,
    /// One record a line, as it came.
    Raw,
}

impl Io<'_> {
    /// Asks a yes-or-no question. Without a person there to answer it, `--yes` must have been said before.
    pub fn confirm(&mut self, question: &str, yes: bool) -> anyhow::Result<()> {
        if yes {
            return Ok(());
        }
        if !self.input_is_terminal {
            bail!("{question} Say --yes, as there is nobody here to ask");
        }
        write!(self.err, "{question} [y/N] ")?;
        self.err.flush()?;
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { bail!("nothing was changed") }
    }

    /// The first line of standard input, which must not be a terminal: it would show the password.
    pub fn password(&mut self) -> anyhow::Result<String> {
        if self.input_is_terminal {
            bail!(
                "the password is read from standard input: read -rs P; printf %s \"$P\" | laigu-router api easemob …"
            );
        }
        let mut line = String::new();
        self.input.read_line(&mut line).context("cannot read the password from standard input")?;
        let password = line.trim_end_matches(['\r', '\n']).to_owned();
        if password.is_empty() {
            bail!("no password came on standard input");
        }
        Ok(password)
    }
}

/// One page, or what follows from its failure and why.
pub type NextPage<T> = Result<Option<Batch<T>>, (Action, anyhow::Error)>;

/// Writes a list as it is read.
pub async fn list<T>(
    io: &mut Io<'_>,
    format: Format,
    columns: &[Column<T>],
    limit: Option<u64>,
    pace: &mut Pace,
    mut next: impl AsyncFnMut() -> NextPage<T>,
) -> anyhow::Result<()> {
    let limit = limit.unwrap_or(u64::MAX);
    let mut written = 0_u64;
    let mut told = Instant::now();
    if format == Format::Table {
        writeln!(io.out, "{}", table::header(columns))?;
    }
    while written < limit {
        pace.turn().await;
        let page = match next().await {
            Ok(None) => break,
            Ok(Some(page)) => page,
            Err((action, _)) if pace.again(action).await => continue,
            Err((action, error)) => return Err(error.context(advice(action))),
        };
        pace.answered();
        unreadable(io, page.unreadable)?;
        for record in page.records.iter().take(usize::try_from(limit - written).unwrap_or(usize::MAX)) {
            one(io, format, columns, record)?;
            written += 1;
        }
        io.out.flush()?;
        if io.err_is_terminal && told.elapsed() >= PROGRESS_EVERY {
            write!(io.err, "\r{written} records")?;
            io.err.flush()?;
            told = Instant::now();
        }
    }
    if io.err_is_terminal {
        writeln!(io.err, "\r{written} records")?;
    }
    Ok(())
}

/// Says that records were left out because they cannot be read.
pub fn unreadable(io: &mut Io<'_>, count: usize) -> anyhow::Result<()> {
    if count > 0 {
        writeln!(io.err, "{count} records are no JSON objects: left out")?;
    }
    Ok(())
}

/// Writes one record of a list.
pub fn one<T>(io: &mut Io<'_>, format: Format, columns: &[Column<T>], record: &Record<T>) -> anyhow::Result<()> {
    match format {
        Format::Table => writeln!(io.out, "{}", table::row(columns, &record.typed))?,
        Format::Json => writeln!(io.out, "{}", exact(&record.raw)?)?,
        Format::Raw => raw(io, &record.raw)?,
    }
    Ok(())
}

/// Writes one record by itself: for people a member a line.
pub fn alone<T>(io: &mut Io<'_>, format: Format, record: &Record<T>) -> anyhow::Result<()> {
    match format {
        Format::Table => {
            let members: Map<String, Value> =
                serde_json::from_slice(&record.raw).context("a record that is no object")?;
            for (name, value) in members {
                let text = match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                writeln!(io.out, "{}: {}", table::plain(&name), table::plain(&text))?;
            }
        }
        Format::Json => writeln!(io.out, "{}", exact(&record.raw)?)?,
        Format::Raw => raw(io, &record.raw)?,
    }
    Ok(())
}

/// A record's bytes in one line; line breaks between its members become blanks, which change nothing in JSON.
fn raw(io: &mut Io<'_>, bytes: &[u8]) -> anyhow::Result<()> {
    let line: Vec<u8> = bytes.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    io.out.write_all(&line)?;
    writeln!(io.out)?;
    Ok(())
}

/// The same JSON with integers beyond 2^53 as texts.
fn exact(raw: &[u8]) -> anyhow::Result<Value> {
    vendors::exact::read(raw).context("a record that is no JSON")
}

/// A text that may be absent.
pub fn text(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

/// A time that may be absent, in Beijing time to the second.
pub fn time(moment: &Option<Moment>) -> String {
    use crate::vendors::{
        laigu::api::window::{Bound, TimeFormat},
        times::BEIJING,
    };
    moment.as_ref().map(|moment| TimeFormat::Seconds.write(moment.instant, Bound::From, BEIJING)).unwrap_or_default()
}

/// A number that may be absent.
pub fn number(number: &Option<impl ToString>) -> String {
    number.as_ref().map(ToString::to_string).unwrap_or_default()
}
