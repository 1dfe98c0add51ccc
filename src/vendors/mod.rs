//! What is known about those who push to us: how they sign, what their envelopes say, how their APIs answer.

pub mod action;
pub mod easemob;
pub mod guard;
pub mod http;
pub mod laigu;
pub mod record;
pub mod times;
