//! Laigu (来鼓) and Meiqia (美洽), which share one code base: their pushes and their API.

pub mod api;
pub mod dialect;
pub mod found;
