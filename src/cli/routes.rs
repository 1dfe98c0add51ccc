//! `routes`: the routes in force.

use super::{
    Global, Status,
    client::Client,
    output::print,
    show::{cell, items, table},
};
use clap::Args;
use serde_json::Value;

/// The arguments of `routes`.
#[derive(Debug, Clone, Args)]
pub(super) struct RoutesArgs {}

pub(super) async fn run(global: &Global, _: &RoutesArgs) -> anyhow::Result<Status> {
    let body = Client::new(global)?.get(&["routes"], &[]).await?;
    if global.json {
        print(&(body + "\n"))?;
        return Ok(Status::Done);
    }
    let list: Value = serde_json::from_str(&body)?;
    let names = |route: &Value| {
        let to = route.get("to").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        to.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    let row = |route: &Value| {
        [cell(route, "name"), cell(route, "when"), names(route), cell(route, "routed"), cell(route, "missing_fields")]
    };
    let rows: Vec<_> = items(&list).iter().map(row).collect();
    print(&table(["name", "when", "to", "routed", "missing"], &rows))?;
    Ok(Status::Done)
}
