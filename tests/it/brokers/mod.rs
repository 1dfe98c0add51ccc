//! Real brokers, and how tests speak to them past the product.

pub mod rabbitmq;
