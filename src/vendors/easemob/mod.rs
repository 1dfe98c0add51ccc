//! Easemob KeFu (环信客服云): its webhook and its API.

pub mod api;
pub mod dialect;
pub mod found;
