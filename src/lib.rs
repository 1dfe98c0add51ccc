//! Takes webhook pushes from Laigu and Easemob KeFu, keeps them durably, and fans them out to RabbitMQ and Kafka.
//!
//! `ARCHITECTURE.md` has the map. In one line: ingress appends to EVENTS, the router reads EVENTS and appends to
//! ROUTED, one lane a destination reads ROUTED and publishes.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod core;
pub mod demo;
pub mod destinations;
pub mod domain;
pub mod enrich;
pub mod ingress;
pub mod journal;
pub mod lanes;
pub mod metrics;
pub mod reconcile;
pub mod routing;
pub mod sandbox;
pub mod telemetry;
pub mod vendors;
