//! `routes.yaml`: from the text to checked [`settings`].

pub mod settings;
