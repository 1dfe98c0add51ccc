//! The reference part of `docs/cli.md`, written from the command tree, and the test that it is what the file says.

use super::Cli;
use clap::{Arg, Command, CommandFactory};

/// What stands before the written part.
const MARK: &str =
    "<!-- From here on written from the command tree: UPDATE_DOCS=1 cargo test --lib cli::reference -->\n";

fn reference() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut text = String::from("\n## Every verb\n\nThese are taken everywhere:\n\n");
    text += &options(cli.get_arguments().filter(|arg| arg.is_global_set()));
    cli.get_subcommands().for_each(|verb| describe(verb, "laigu-router", &mut text));
    text
}

fn describe(verb: &Command, before: &str, text: &mut String) {
    let path = format!("{before} {}", verb.get_name());
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    *text += &format!("\n### {path}\n\n{about}.\n");
    let own = options(verb.get_arguments().filter(|arg| !is_everywhere(arg)));
    if !own.is_empty() {
        *text += &format!("\n{own}");
    }
    verb.get_subcommands().for_each(|verb| describe(verb, &path, text));
}

/// Those of every verb are told once; help is where one expects it.
fn is_everywhere(arg: &Arg) -> bool {
    arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str())
}

fn options<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut rows = String::new();
    for arg in arguments.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
        let values = arg.get_value_names().unwrap_or_default().iter().map(|name| format!(" {name}"));
        let values = if arg.get_action().takes_values() { values.collect() } else { String::new() };
        let name = match arg.get_long() {
            Some(long) => format!("`--{long}{values}`"),
            None => format!("`{}`", values.trim_start()),
        };
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !default.is_empty() && arg.get_action().takes_values() {
            help += &format!(" (default `{}`)", default.join(" "));
        }
        if let Some(variable) = arg.get_env() {
            help += &format!(" (variable `{}`)", variable.to_string_lossy());
        }
        let choices: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if !choices.is_empty() && arg.get_action().takes_values() {
            help += &format!(": {}", choices.join(", "));
        }
        rows += &format!("| {name} | {} |\n", help.replace('|', "\\|"));
    }
    if rows.is_empty() { rows } else { format!("| option | meaning |\n| --- | --- |\n{rows}") }
}

#[test]
fn the_documentation_describes_the_commands_as_they_are() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let file = std::fs::read_to_string(&path).expect("docs/cli.md is there");
    let (before, after) = file.split_once(MARK).expect("docs/cli.md holds the mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{MARK}{}", reference())).expect("docs/cli.md can be written");
        return;
    }
    assert!(after == reference(), "docs/cli.md is behind: UPDATE_DOCS=1 cargo test --lib cli::reference");
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}
