//! What is known about those who push to us: how they sign, what their envelopes say, how their APIs answer.

pub mod easemob;
pub mod laigu;
