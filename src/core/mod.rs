//! The machines: everything that decides, without I/O, clock, randomness or threads.
//!
//! Each machine is a `step(now, input, effects)`: shells carry the effects out and bring the outcomes back, so that
//! the same code runs in production and, from a seed, in the simulator (`tests/sim`).

pub mod enrich;
pub mod gate;
pub mod intake;
pub mod jump;
pub mod lane;
pub mod rate;
pub mod reconcile;
pub mod replay;
pub mod retention;
pub mod retry;
pub mod router;
