//! The door on a real socket: every status of the contract, deadlines, caps, hostile framing.

mod contract;
mod deadlines;
mod framing;
mod secure;
pub mod support;
