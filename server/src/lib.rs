//! The public side of Linkspan: who are you, may you, which gateway.
pub mod config;
