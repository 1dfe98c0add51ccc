//! The integration tests, one binary: they use the public faces (HTTP, command line, brokers) or read the source.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, which is the point")]

mod brokers;
mod cli;
mod compose;
mod crash;
mod demo;
mod disk;
mod door;
mod enrich;
mod kafka;
mod lane;
mod line;
mod program;
mod proxy;
mod rabbitmq;
mod readmes;
mod reconcile;
mod reload;
mod replay;
mod security;
mod tidy;
mod vendors;
