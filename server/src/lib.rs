//! The public side of Linkspan: who are you, may you, which gateway.
pub mod access;
pub mod api;
pub mod config;
pub mod store;
pub mod ui;
