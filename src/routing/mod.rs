//! Where does this event go: conditions, templates, the table of routes. Pure and synchronous.
//!
//! A [`table::Table`] is compiled from one generation of `routes.yaml` and answers for every event. Conditions are CEL
//! ([`condition`]), keys are Jinja ([`template`]); both see an event through a [`scope::Scope`] that borrows from it,
//! and neither builds a JSON tree: the payload is scanned once, members are decoded when they are touched ([`json`]).
//!
//! Three rules hold throughout. A member that is `null` is absent. A field that is not there means "does not match"
//! and is counted; any other error makes a dead letter of that route alone, in words that hold nothing of the payload.
//! And no push may cost more than its budget: loops, scans and texts are paid for ([`budget::Budget`]), template
//! filters run on fuel, what could overflow a stack is refused when the file is read ([`lint`]).

pub mod braces;
pub mod budget;
pub mod condition;
pub mod explain;
#[cfg(test)]
mod fixtures;
pub mod jinja;
pub mod json;
pub mod lint;
pub mod mistake;
pub mod samples;
pub mod scope;
pub mod table;
pub mod template;
pub mod unparse;
pub mod views;
