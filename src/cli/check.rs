//! `check`: the file with all its mistakes at once, and what follows from its numbers.

use super::{Global, Status, output::print};
use crate::{
    app::generation::Generation,
    config::{self, capacity::capacity, diagnostic::Diagnostics},
};
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;

/// The arguments of `check`.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    /// Warnings are mistakes too
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(global: &Global, args: &CheckArgs) -> anyhow::Result<Status> {
    let loaded = config::load(&global.config, &|name| std::env::var(name).ok());
    let generation = loaded.and_then(|loaded| Generation::compile(1, loaded));
    let colours = std::io::stdout().is_terminal() && !global.json;
    let (report, status) = match &generation {
        Ok(generation) => (taken(global, generation, colours), taken_status(args, generation)),
        Err(mistakes) => (refused(global, mistakes, colours), Status::No),
    };
    print(&report)?;
    Ok(status)
}

fn taken_status(args: &CheckArgs, generation: &Generation) -> Status {
    if args.strict && !generation.warnings.is_empty() { Status::No } else { Status::Done }
}

fn taken(global: &Global, generation: &Generation, colours: bool) -> String {
    let sentences = capacity(&generation.settings);
    let warnings = Diagnostics::new(generation.source.clone(), generation.warnings.clone());
    if global.json {
        let warnings: Vec<_> = warnings.list.iter().map(|one| one.message.clone()).collect();
        return format!("{}\n", json!({"ok": true, "errors": [], "warnings": warnings, "capacity": sentences}));
    }
    let mut text = if warnings.list.is_empty() { String::new() } else { warnings.render(colours) + "\n" };
    let settings = &generation.settings;
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    text += &format!(
        "{} is good: {}, {}, {}\n",
        global.config.display(),
        count(settings.sources.len(), "source"),
        count(settings.destinations.len(), "destination"),
        count(settings.routes.len(), "route"),
    );
    sentences.iter().for_each(|sentence| text += &format!("  {sentence}\n"));
    text
}

fn refused(global: &Global, mistakes: &Diagnostics, colours: bool) -> String {
    if global.json {
        let errors: Vec<_> = mistakes.list.iter().map(|one| one.message.clone()).collect();
        return format!("{}\n", json!({"ok": false, "errors": errors, "warnings": [], "capacity": []}));
    }
    let text = mistakes.render(colours);
    format!("{}\n", text.trim_end())
}
